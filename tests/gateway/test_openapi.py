"""The description of the API is true."""

import re
from typing import Any

import pytest

from services.gateway.deletion import Receipt
from services.gateway.model_schemas import Model, ModelPage
from services.gateway.problems import ACCEPTED
from services.gateway.schemas import Analysis, AnalysisPage, ResultPage, ResumableUpload, WindowPage
from services.gateway.webhooks.schemas import DeliveryList, SecretWebhook, ShownWebhook, WebhookList
from shared.deliveries import Delivery
from shared.jobs import Options
from tests.gateway.conftest import Gateway
from tests.web import descriptions


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return descriptions.gateway()


def test_every_success_of_the_api_has_an_example_that_is_one(schema: dict[str, Any]) -> None:
    kinds = (Analysis, AnalysisPage, Receipt, ResultPage, ResumableUpload, WindowPage, Model, ModelPage)
    of = {model.__name__: model for model in (*kinds, ShownWebhook, SecretWebhook, WebhookList, Delivery, DeliveryList)}
    seen = set()
    for name, operation in descriptions.operations(schema):
        if not name.partition(" ")[2].startswith("/v1") or "204" in operation["responses"]:
            continue
        (success,) = (response for status, response in operation["responses"].items() if status < "300")
        content = success["content"].get("application/json")
        if content is None:
            (text,) = success["content"].values()
            assert text["example"], name
            continue
        model = content["schema"]["$ref"].rpartition("/")[2]
        of[model].model_validate(content["example"])
        seen.add(model)
    assert seen == set(of)


def test_both_kinds_of_body_are_described(schema: dict[str, Any]) -> None:
    content = schema["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    assert tuple(content) == ACCEPTED
    form = content["multipart/form-data"]["schema"]
    assert (form["required"], set(form["properties"])) == (["video"], {"video", *Options.model_fields})
    asked = {parameter["name"] for parameter in schema["paths"]["/v1/analyses"]["post"]["parameters"]}
    assert asked == {"idempotency-key", *Options.model_fields}
    assert all(it["description"] for it in form["properties"].values())


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/v1/analyses", {"202", "400", "404", "408", "409", "413", "415", "422", "429", "500", "503", "507"}),
        ("get", "/v1/analyses", {"200", "422", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}", {"200", "404", "410", "500", "503"}),
        ("delete", "/v1/analyses/{analysis_id}", {"200", "404", "410", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}/results", {"200", "404", "409", "410", "422", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}/windows", {"200", "404", "410", "422", "500", "503"}),
        ("post", "/v1/analyses/{analysis_id}:cancel", {"200", "404", "409", "410", "500", "503"}),
        ("get", "/v1/models", {"200", "422", "500", "503"}),
        ("get", "/v1/models/{version}", {"200", "404", "500", "503"}),
        ("get", "/v1/models/{version}/card", {"200", "304", "404", "500", "503"}),
        ("options", "/v1/uploads", {"204", "500", "503"}),
        ("post", "/v1/uploads", {"201", "400", "404", "408", "412", "413", "415", "422", "429", "460", "500", "503", "507"}),
        ("get", "/v1/uploads/{upload_id}", {"200", "404", "412", "500", "503"}),
        (
            "patch",
            "/v1/uploads/{upload_id}",
            {"204", "400", "404", "408", "409", "412", "413", "415", "422", "429", "460", "500", "503", "507"},
        ),
        ("delete", "/v1/uploads/{upload_id}", {"204", "404", "409", "412", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}/events", {"200", "204", "404", "410", "429", "500", "503"}),
        ("post", "/v1/webhooks", {"201", "400", "408", "413", "422", "429", "500", "503", "507"}),
        ("post", "/v1/webhooks/{webhook_id}:test", {"202", "404", "409", "500", "503"}),
        ("get", "/readyz", {"200", "500", "503"}),
    ],
)
def test_the_statuses_are_those_that_the_server_can_answer(schema: dict[str, Any], method: str, path: str, statuses: set[str]) -> None:
    assert set(schema["paths"][path][method]["responses"]) == statuses | {"401", "403", "429"}, "and those of every route that takes a key"


def test_what_is_described_is_what_is_served(lasting_gateway: Gateway, schema: dict[str, Any]) -> None:
    assert lasting_gateway.get("/openapi.json") == schema


def test_the_page_needs_no_other_server(lasting_gateway: Gateway) -> None:
    page = lasting_gateway.http.get("/docs").raise_for_status().text
    assert "//" not in page.replace("<!--", ""), "no address outside this server"
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(parts) == 3
    for part in parts:
        lasting_gateway.http.get(part).raise_for_status()

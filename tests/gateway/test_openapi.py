"""The description of the API is complete, and true."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.app import create_app
from services.gateway.model_schemas import Model, ModelPage
from services.gateway.problems import ACCEPTED
from services.gateway.published import Models
from services.gateway.schemas import Analysis, AnalysisPage, Problem, ResultPage, WindowPage
from services.gateway.uploads import UploadLimits
from shared.jobs import Options
from shared.queue import GatewayQueue
from shared.videos import Videos
from tests.gateway.conftest import Gateway


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    # Nothing is connected to before it is used.
    app = create_app(
        queue=GatewayQueue("redis://127.0.0.1:1"),
        videos=Videos(Path("nowhere")),
        models=Models(Path("nowhere")),
        triton_http="",
        limits=UploadLimits(max_bytes=1),
    )
    described: dict[str, Any] = app.openapi()
    return described


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_schema_and_every_property_is_described(schema: dict[str, Any]) -> None:
    silent = [
        f"{name}.{field}"
        for name, of in schema["components"]["schemas"].items()
        for field, it in {"": of, **of.get("properties", {})}.items()
        if not it.get("description")
    ]
    assert silent == []


def test_every_operation_parameter_and_header_is_described(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        assert operation["summary"], name
        assert operation["description"], name
        described = [
            *operation.get("parameters", []),
            *(header for of in operation["responses"].values() for header in of["headers"].values()),
        ]
        assert all(it.get("description") for it in described), name


def test_every_error_is_a_problem_with_an_example_that_is_one(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        errors = {status: response for status, response in operation["responses"].items() if int(status) >= 400}
        assert "500" in errors, name
        for status, response in errors.items():
            assert list(response["content"]) == ["application/problem+json"], (name, status)
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content["examples"].items():
                problem = Problem.model_validate(example["value"])
                assert (problem.code, problem.status) == (code, int(status)), name


def test_every_success_of_the_api_has_an_example_that_is_one(schema: dict[str, Any]) -> None:
    of = {model.__name__: model for model in (Analysis, AnalysisPage, ResultPage, WindowPage, Model, ModelPage)}
    seen = set()
    for name, operation in operations(schema):
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


def test_references_lead_somewhere(schema: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    names = {reference.rpartition("/")[2] for reference in references(schema)}
    assert names <= schema["components"]["schemas"].keys()
    assert not {"HTTPValidationError", "ValidationError"} & schema["components"]["schemas"].keys()


def test_both_kinds_of_body_are_described(schema: dict[str, Any]) -> None:
    content = schema["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    assert tuple(content) == ACCEPTED
    form = content["multipart/form-data"]["schema"]
    assert (form["required"], set(form["properties"])) == (["video"], {"video", *Options.model_fields})
    asked = {parameter["name"] for parameter in schema["paths"]["/v1/analyses"]["post"]["parameters"]}
    assert asked == set(Options.model_fields)
    assert all(it["description"] for it in form["properties"].values())


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/v1/analyses", {"202", "400", "404", "408", "413", "415", "422", "500", "503", "507"}),
        ("get", "/v1/analyses", {"200", "422", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}", {"200", "404", "500", "503"}),
        ("delete", "/v1/analyses/{analysis_id}", {"204", "404", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}/results", {"200", "404", "409", "410", "422", "500", "503"}),
        ("get", "/v1/analyses/{analysis_id}/windows", {"200", "404", "410", "422", "500", "503"}),
        ("post", "/v1/analyses/{analysis_id}:cancel", {"200", "404", "409", "500", "503"}),
        ("get", "/v1/models", {"200", "422", "500", "503"}),
        ("get", "/v1/models/{version}", {"200", "404", "500", "503"}),
        ("get", "/v1/models/{version}/card", {"200", "304", "404", "500", "503"}),
        ("get", "/readyz", {"200", "500", "503"}),
    ],
)
def test_the_statuses_are_those_that_the_server_can_answer(schema: dict[str, Any], method: str, path: str, statuses: set[str]) -> None:
    assert set(schema["paths"][path][method]["responses"]) == statuses


def test_what_is_described_is_what_is_served(lasting_gateway: Gateway, schema: dict[str, Any]) -> None:
    assert lasting_gateway.get("/openapi.json") == schema


def test_the_page_needs_no_other_server(lasting_gateway: Gateway) -> None:
    page = lasting_gateway.http.get("/docs").raise_for_status().text
    assert "//" not in page.replace("<!--", ""), "no address outside this server"
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(parts) == 3
    for part in parts:
        lasting_gateway.http.get(part).raise_for_status()

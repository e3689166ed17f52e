"""Asking for a release by its version: what cannot judge is refused before a byte of the video is read."""

from typing import Any

import pytest

from services.gateway.choice import NAMED
from shared.releases import MANIFEST, folder_name
from tests.gateway.conftest import RAW, VIDEO, Gateway
from tests.gateway.releases import publish


@pytest.fixture
def gateway_with_models(gateway: Gateway) -> Gateway:
    """Releases 1 to 3 are published, 2 and 3 are loaded."""
    for version in (1, 2, 3):
        publish(gateway, version)
    for version in (2, 3):
        gateway.triton.load(version)
    return gateway


def refused(response: Any) -> tuple[str, list[int]]:
    """Detail, and the versions that are offered."""
    assert response.status_code == 404, response.text
    body = response.json()
    assert (body["code"], body["retryable"]) == ("model-version-unavailable", False)
    return body["detail"], body["available"]


def asked_for(gateway: Gateway, version: int) -> Any:
    return gateway.http.post("/v1/analyses", params={"model_version": version}, content=VIDEO, headers=RAW)


def test_a_release_that_is_loaded_may_be_asked_for_whoever_is_champion(gateway_with_models: Gateway) -> None:
    gateway_with_models.worker.promote("champion", 3)
    assert gateway_with_models.post(model_version=2)["options"]["model_version"] == 2
    assert gateway_with_models.claim().job.options.model_version == 2


def test_an_unknown_release_is_refused_and_those_that_can_judge_are_named(gateway_with_models: Gateway) -> None:
    assert refused(asked_for(gateway_with_models, 9)) == ("release 9 is not published", [3, 2])
    assert gateway_with_models.settles_to_nothing()


def test_a_release_that_is_not_loaded_is_refused(gateway_with_models: Gateway) -> None:
    assert refused(asked_for(gateway_with_models, 1)) == ("release 1 is published, but not loaded", [3, 2])
    gateway_with_models.triton.ready.remove("mien_000003_clip")
    assert refused(asked_for(gateway_with_models, 3)) == ("release 3 is published, but not loaded", [2])


def test_a_broken_release_is_no_release(gateway_with_models: Gateway) -> None:
    (gateway_with_models.models / folder_name(3) / MANIFEST).write_text("{}")
    assert refused(asked_for(gateway_with_models, 3)) == ("release 3 is not published", [2])


def test_a_release_that_wants_other_crops_cannot_judge(gateway_with_models: Gateway) -> None:
    publish(gateway_with_models, 4, preprocess="p0")
    gateway_with_models.triton.load(4)
    assert refused(asked_for(gateway_with_models, 4)) == ("release 4 is not published", [3, 2])


def test_it_is_refused_before_the_body_is_read(gateway_with_models: Gateway) -> None:
    head = b"POST /v1/analyses?model_version=9 HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\nContent-Length: 999999\r\n\r\n"
    status, text = gateway_with_models.raw(head)
    assert status == 404
    assert '"available":[3,2]' in text


def test_a_field_of_the_form_is_looked_at_as_well_and_leaves_nothing(gateway_with_models: Gateway) -> None:
    answer = gateway_with_models.http.post("/v1/analyses", data={"model_version": "9"}, files={"video": VIDEO})
    assert refused(answer) == ("release 9 is not published", [3, 2])
    assert gateway_with_models.settles_to_nothing()
    taken = gateway_with_models.http.post("/v1/analyses", data={"model_version": "2"}, files={"video": VIDEO})
    assert (taken.status_code, taken.json()["options"]["model_version"]) == (202, 2)


@pytest.mark.parametrize("trouble", ["hang", "broken"])
def test_a_model_server_that_does_not_answer_is_no_reason_to_refuse(gateway_with_models: Gateway, trouble: str) -> None:
    getattr(gateway_with_models.triton, trouble).set()
    assert asked_for(gateway_with_models, 1).status_code == 202
    assert refused(asked_for(gateway_with_models, 9)) == ("release 9 is not published", [3, 2, 1])


def test_only_the_newest_are_named(gateway: Gateway) -> None:
    for version in range(1, NAMED + 5):
        publish(gateway, version)
        gateway.triton.load(version)
    assert refused(asked_for(gateway, 999)) == ("release 999 is not published", list(range(NAMED + 4, 4, -1)))

"""What may be asked for beside the video: in the query or in the form, checked, kept, and never guessed."""

import json
from typing import Any, Literal

import pytest

from shared.jobs import LATEST_MS, Job, Options
from tests.gateway.conftest import RAW, VIDEO, Gateway

HEAD = b"POST /v1/analyses%s HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\n"
ASKED = {
    "start_ms": 1000,
    "end_ms": 2500,
    "sample_fps": 4.5,
    "min_face": 40,
    "max_faces": 3,
    "enhance": "never",
    "training_consent": True,
    "keep_video": True,
}

Place = Literal["query", "body"]

in_both_places = pytest.mark.parametrize("place", ["query", "body"])


def post(gateway: Gateway, place: Place, options: dict[str, Any]) -> Any:
    words = {name: json.dumps(value).strip('"') for name, value in options.items()}
    if place == "query":
        return gateway.http.post("/v1/analyses", params=words, content=VIDEO, headers=RAW)
    return gateway.http.post("/v1/analyses", data=words, files={"video": VIDEO})


def refused(response: Any) -> list[tuple[str, str]]:
    """Field and code of each error."""
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["code"]) == (422, "validation-failed"), response.text
    return [(error["field"], error["code"]) for error in response.json()["errors"]]


# --- kept ------------------------------------------------------------------------------------------------------------


@in_both_places
def test_what_is_asked_for_is_echoed_kept_and_handed_to_the_worker(gateway: Gateway, place: Place) -> None:
    posted = post(gateway, place, ASKED).json()
    assert posted["options"] == {**ASKED, "model_version": None}
    assert gateway.get(posted["links"]["analysis"])["options"] == posted["options"]
    manifest = gateway.data / "analyses" / posted["id"] / "manifest.json"
    assert Job.model_validate_json(manifest.read_bytes()).options == gateway.claim().job.options == Options.model_validate(ASKED)


def test_nothing_need_be_asked_for(gateway: Gateway) -> None:
    assert gateway.post()["options"] == Options().model_dump(mode="json")
    assert Options().training_consent is Options().keep_video is False


def test_some_may_be_in_the_query_and_others_in_the_form(gateway: Gateway) -> None:
    response = gateway.http.post("/v1/analyses?start_ms=1000&enhance=always", data={"end_ms": "1001"}, files={"video": VIDEO})
    options = response.json()["options"]
    assert (options["start_ms"], options["end_ms"], options["enhance"]) == (1000, 1001, "always")


@in_both_places
@pytest.mark.parametrize("consented", [False, True])
def test_consent_to_training_is_kept_with_the_video(gateway: Gateway, place: Place, consented: bool) -> None:
    posted = post(gateway, place, {"training_consent": consented}).json()
    assert posted["options"]["training_consent"] is consented
    manifest = json.loads((gateway.data / "analyses" / posted["id"] / "manifest.json").read_bytes())
    assert manifest["options"]["training_consent"] is consented
    assert gateway.claim().job.options.training_consent is consented


# --- refused ---------------------------------------------------------------------------------------------------------


@in_both_places
@pytest.mark.parametrize(
    ("options", "field", "code"),
    [
        ({"start_ms": -1}, "start_ms", "greater_than_equal"),
        ({"start_ms": "soon"}, "start_ms", "int_parsing"),
        ({"start_ms": 1.5}, "start_ms", "int_parsing"),
        ({"start_ms": LATEST_MS + 1}, "start_ms", "less_than_equal"),
        ({"start_ms": ""}, "start_ms", "int_parsing"),
        ({"end_ms": 0}, "end_ms", "greater_than"),
        ({"start_ms": 2000, "end_ms": 2000}, "end_ms", "not_after_start"),
        ({"start_ms": 2000, "end_ms": 1000}, "end_ms", "not_after_start"),
        ({"end_ms": None}, "end_ms", "int_parsing"),
        ({"min_face": 19}, "min_face", "greater_than_equal"),
        ({"min_face": 2001}, "min_face", "less_than_equal"),
        ({"max_faces": 0}, "max_faces", "greater_than_equal"),
        ({"max_faces": 33}, "max_faces", "less_than_equal"),
        ({"enhance": "yes"}, "enhance", "enum"),
        ({"model_version": 0}, "model_version", "greater_than_equal"),
        ({"model_version": "champion"}, "model_version", "int_parsing"),
        ({"sample_fps": "nan"}, "sample_fps", "finite_number"),
        ({"sample_fsp": 4}, "sample_fsp", "extra_forbidden"),
        ({"id": "an_1"}, "id", "extra_forbidden"),
    ],
)
def test_what_is_not_valid_is_named(lasting_gateway: Gateway, place: Place, options: dict[str, Any], field: str, code: str) -> None:
    assert refused(post(lasting_gateway, place, options)) == [(f"{place}.{field}", code)]
    assert lasting_gateway.settles_to_nothing()


def test_an_end_before_its_start_is_named_where_it_is(lasting_gateway: Gateway) -> None:
    def post_both(query: str, form: dict[str, str]) -> Any:
        return lasting_gateway.http.post(f"/v1/analyses?{query}", data=form, files={"video": VIDEO})

    assert refused(post_both("start_ms=2000", {"end_ms": "1000"})) == [("body.end_ms", "not_after_start")]
    assert refused(post_both("end_ms=1000", {"start_ms": "2000"})) == [("query.end_ms", "not_after_start")]
    assert lasting_gateway.settles_to_nothing()


def test_all_that_is_wrong_is_said_at_once(lasting_gateway: Gateway) -> None:
    wrong = {"start_ms": -1, "end_ms": -1, "enhance": "a bit", "colour": "red"}
    assert {field for field, _ in refused(post(lasting_gateway, "query", wrong))} == {f"query.{name}" for name in wrong}


@in_both_places
@pytest.mark.parametrize("name", ["training_consent", "keep_video"])
@pytest.mark.parametrize("value", ["1", "0", "yes", "on", "t", "True", "TRUE", "null", "", "true "])
def test_consent_is_given_in_as_many_words_or_not_at_all(lasting_gateway: Gateway, place: Place, name: str, value: str) -> None:
    ((field, _),) = refused(post(lasting_gateway, place, {name: value}))
    assert field == f"{place}.{name}"
    assert lasting_gateway.settles_to_nothing()


@pytest.mark.parametrize("twice", ["training_consent=false&training_consent=true", "start_ms=1&start_ms=1"])
def test_which_of_two_was_meant_is_not_guessed(lasting_gateway: Gateway, twice: str) -> None:
    response = lasting_gateway.http.post(f"/v1/analyses?{twice}", content=VIDEO, headers=RAW)
    assert refused(response) == [(f"query.{twice.partition('=')[0]}", "given_twice")]


@pytest.mark.parametrize("query", [b"?sample_fps=0", b"?sample_fps=nan", b"?sample_fps=", b"?start_ms=5&end_ms=5", b"?enhance=on"])
def test_the_query_is_checked_before_the_body_is_read(lasting_gateway: Gateway, query: bytes) -> None:
    status, text = lasting_gateway.raw(HEAD % query + b"Content-Length: 999999\r\n\r\n")
    assert status == 422
    assert '"code":"validation-failed"' in text

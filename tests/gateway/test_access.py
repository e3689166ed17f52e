"""Who may do what: every operation of the description by everybody, tenants that see nothing of each other, purposes, and limits."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.uploads import UploadLimits
from services.web.guard import Guard
from services.web.limits import PerDay, PerMinute
from shared.keys import Basis, KeyFolder, Purpose, Role
from tests.gateway.conftest import RAW, VIDEO, Gateway, read_answer, running
from tests.web.callers import Callers, bearer, callers
from tests.web.matrix import Operation, described, wrongly_answered

LIMITS = UploadLimits(max_bytes=1000)
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Callers:
    return callers(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def guarded(shared_redis: Any, asked: Callers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    shared_redis.empty()
    data = tmp_path_factory.mktemp("guarded") / "data"
    with running(redis_url=shared_redis.url, data=data, limits=LIMITS, guard=Guard(asked.keys)) as gateway:
        yield gateway


def post(gateway: Gateway, headers: dict[str, str]) -> httpx.Response:
    return gateway.http.post("/v1/analyses", content=VIDEO, headers={**RAW, **headers})


def posted(gateway: Gateway, headers: dict[str, str]) -> str:
    answer = post(gateway, headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- keys and roles ---------------------------------------------------------------------------------------------------


def test_every_operation_answers_everybody_as_its_roles_promise(guarded: Gateway, asked: Callers) -> None:
    ids = {"analysis_id": posted(guarded, asked.headers["client"])}
    schema = guarded.get("/openapi.json")
    assert len(list(described(schema))) >= 15
    assert wrongly_answered(schema, guarded.http, asked, ids) == []


def test_what_is_another_tenants_is_as_unknown_as_what_never_was(guarded: Gateway, asked: Callers) -> None:
    ours = everything_of(guarded, asked.headers["client"])
    unknown = {name: re.sub("[0-9a-f]{32}", "0" * 32, its_id) for name, its_id in ours.items()}
    other = {**asked.headers["client of another tenant"], **TUS}

    def answer(operation: Operation, ids: dict[str, str]) -> tuple[int, str]:
        status, problem = operation.ask(guarded.http, other, ids)
        problem.pop("request_id", None)
        return status, re.sub("[0-9a-f]{32}", "ID", json.dumps(problem))

    about_one = [it for it in described(guarded.get("/openapi.json")) if any(f"{{{name}}}" in it.name for name in ours)]
    assert len(about_one) >= 15
    for operation in about_one:
        assert answer(operation, ours) == answer(operation, unknown), operation.name
        assert answer(operation, ours)[0] == 404, operation.name
    for path in ("/v1/analyses", "/v1/webhooks"):
        assert not any(its_id in guarded.http.get(path, headers=other).text for its_id in ours.values())
    for path in (f"/v1/analyses/{ours['analysis_id']}", f"/v1/uploads/{ours['upload_id']}", f"/v1/webhooks/{ours['webhook_id']}"):
        assert guarded.http.get(path, headers=asked.headers["client"]).status_code == 200, "nothing that was tried has removed it"


def everything_of(gateway: Gateway, headers: dict[str, str]) -> dict[str, str]:
    """The ids of one of each kind of thing that a tenant has, by the parameters of the paths."""
    upload = gateway.http.post("/v1/uploads", headers={**headers, **TUS, "Upload-Length": "100"})
    webhook = gateway.http.post("/v1/webhooks", headers=headers, json={"url": "https://8.8.8.8/mien"})
    assert (upload.status_code, webhook.status_code) == (201, 201), (upload.text, webhook.text)
    return {
        "analysis_id": posted(gateway, headers),
        "upload_id": upload.headers["Location"].rpartition("/")[2],
        "webhook_id": webhook.json()["id"],
        "delivery_id": f"msg_{'1' * 32}",
    }


def test_what_outlived_its_record_is_still_its_tenants(guarded: Gateway, asked: Callers, shared_redis: Any) -> None:
    ours = posted(guarded, asked.headers["client"])
    shared_redis.empty()
    here = f"/v1/analyses/{ours}"
    assert code(guarded.http.delete(here, headers=asked.headers["client of another tenant"])) == (404, "job-not-found")
    assert any(ours in name for name in guarded.files())
    assert guarded.http.delete(here, headers=asked.headers["client"]).is_success
    assert not any(ours in name for name in guarded.files())


def test_who_is_refused_is_refused_before_the_body_is_read(guarded: Gateway, asked: Callers) -> None:
    at_work = asked.keys.create(tenant="acme", roles=[Role.CLIENT], purpose=Purpose.WORKPLACE)
    time.sleep(2.1)
    for headers, status in (({}, 401), (asked.headers["ops"], 403), (bearer(at_work.written), 403)):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with guarded.connect() as connection:
            connection.sendall(f"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Length: 900\r\n{lines}\r\n".encode())
            assert read_answer(connection)[0] == status, "though no byte of the body was sent"


def test_page_and_descriptions_are_for_everybody(guarded: Gateway) -> None:
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/problems", "/problems/unauthenticated"):
        assert guarded.http.get(path).status_code == 200, path


# --- keys that come and go --------------------------------------------------------------------------------------------


def test_a_key_is_rotated_without_a_failed_request_and_a_revoked_one_is_dead_within_five_seconds(guarded: Gateway, asked: Callers) -> None:
    old = asked.keys.create(tenant="rotating", roles=[Role.CLIENT], purpose=Purpose.MEDIA)
    statuses: list[int] = []

    def ask(written: str) -> int:
        return guarded.http.get("/v1/analyses", headers=bearer(written)).status_code

    def settles_at(written: str, status: int) -> float:
        began = time.monotonic()
        while ask(written) != status:
            assert time.monotonic() - began < 5
            time.sleep(0.02)
        return time.monotonic() - began

    settles_at(old.written, 200)
    new = asked.keys.rotate(old.record.id, overlap_s=60)
    settles_at(new.written, 200)
    statuses += [ask(written) for written in (old.written, new.written) * 20]
    assert set(statuses) == {200}, "while both live"
    asked.keys.revoke(old.record.id)
    settles_at(old.written, 401)
    assert ask(new.written) == 200


def test_guessing_opens_nothing_and_only_digests_are_kept(guarded: Gateway, asked: Callers, tmp_path: Path) -> None:
    new = KeyFolder(tmp_path).create(tenant="acme", roles=[Role.CLIENT], purpose=Purpose.MEDIA)
    secret = new.written.rpartition(new.record.id + "_")[2]
    assert len(secret) * 6 >= 128, "base64"
    (file,) = tmp_path.iterdir()
    assert secret not in file.read_text()
    assert new.written not in file.read_text()
    for number in range(300):
        guess = f"an_{number:032x}"
        assert guarded.http.get(f"/v1/analyses/{guess}", headers=asked.headers["client"]).status_code == 404


# --- purposes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "basis", "status"),
    [
        (Purpose.RESEARCH, None, 202),
        (Purpose.WORKPLACE, None, 403),
        (Purpose.EDUCATION, None, 403),
        (None, None, 403),
        (None, Basis.MEDICAL_OR_SAFETY, 403),
        (Purpose.WORKPLACE, Basis.MEDICAL_OR_SAFETY, 202),
        (Purpose.EDUCATION, Basis.MEDICAL_OR_SAFETY, 202),
    ],
)
def test_a_purpose_is_declared_and_lawful(
    redis_url: str, tmp_path: Path, purpose: Purpose | None, basis: Basis | None, status: int
) -> None:
    keys = KeyFolder(tmp_path / "keys")
    key = keys.create(tenant="acme", roles=[Role.CLIENT], purpose=purpose, basis=basis)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, guard=Guard(keys)) as gateway:
        answer = post(gateway, bearer(key.written))
        assert answer.status_code == status
        if status == 403:
            assert (answer.json()["code"], answer.json().get("purpose")) == ("use-not-permitted", purpose)
            assert gateway.files() == []


# --- limits -----------------------------------------------------------------------------------------------------------


def test_who_asks_too_often_waits_and_nobody_else_does(redis_url: str, asked: Callers, tmp_path: Path) -> None:
    guard = Guard(asked.keys, requests=PerMinute(5))
    with running(redis_url=redis_url, data=tmp_path / "data", limits=LIMITS, guard=guard) as gateway:
        answers = [gateway.http.get("/v1/analyses", headers=asked.headers["client"]) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
        assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=4", "r=3", "r=2", "r=1", "r=0", "r=0", "r=0", "r=0"]
        refused = answers[-1]
        assert refused.headers["RateLimit-Policy"] == '"requests";q=5;w=60'
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert (refused.json()["code"], refused.json()["quota"], refused.json()["retryable"]) == ("quota-exceeded", "requests", True)
        assert gateway.http.get("/v1/analyses", headers=asked.headers["client of another tenant"]).status_code == 200
        assert gateway.http.get("/healthz").status_code == 200


def test_videos_are_counted_over_all_gateways(redis_url: str, asked: Callers, tmp_path: Path) -> None:
    headers = asked.headers["client"]
    for number, statuses in enumerate(([202, 202], [202, 429])):
        guard = Guard(asked.keys, requests=PerMinute(100), videos=PerDay(3, redis_url=redis_url))
        with running(redis_url=redis_url, data=tmp_path / f"data{number}", limits=LIMITS, guard=guard) as gateway:
            answers = [post(gateway, headers) for _ in range(2)]
            assert [answer.status_code for answer in answers] == statuses
    assert answers[-1].headers["RateLimit-Policy"] == '"requests";q=100;w=60, "videos";q=3;w=86400'
    assert answers[-1].json()["quota"] == "videos"
    assert 86000 < int(answers[-1].headers["Retry-After"]) <= 86400


def test_without_redis_no_video_is_taken_and_the_answer_says_why(redis_server: Any, asked: Callers, tmp_path: Path) -> None:
    guard = Guard(asked.keys, videos=PerDay(3, redis_url=redis_server.url))
    with running(redis_url=redis_server.url, data=tmp_path / "data", limits=LIMITS, guard=guard) as gateway:
        redis_server.kill()
        answer = post(gateway, asked.headers["client"])
        assert (*code(answer), answer.json()["dependency"]) == (503, "dependency-unavailable", "redis")
        redis_server.start()
        assert post(gateway, asked.headers["client"]).status_code == 202


# --- what every answer keeps to itself --------------------------------------------------------------------------------


def test_no_answer_of_the_api_is_stored_on_its_way(guarded: Gateway, asked: Callers) -> None:
    here = f"/v1/analyses/{posted(guarded, asked.headers['client'])}"
    for path in ("/v1/analyses", here, f"{here}/results", f"{here}/windows", "/v1/analyses/unknown"):
        for headers in ({}, asked.headers["client"]):
            answer = guarded.http.get(path, headers=headers)
            assert answer.headers["Cache-Control"] == "no-store", (path, answer.status_code)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_that_could_name_a_person_is_in_a_result(guarded: Gateway) -> None:
    schemas = guarded.get("/openapi.json")["components"]["schemas"]
    fields = {field for name in schemas if not name.startswith("Body") for field in schemas[name].get("properties", {})}
    assert "disclosure" in fields
    assert not {field for field in fields if any(word in field for word in ("embedding", "identity", "person", "face_id", "filename"))}

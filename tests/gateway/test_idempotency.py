"""A request with an Idempotency-Key may be sent again and again: one analysis, one answer."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.jobs import Timings
from shared.keys import KeyFolder, Purpose, Role
from tests.conftest import RedisServer
from tests.gateway.conftest import RAW, VIDEO, Gateway, read_answer, wait_until
from tests.gateway.processes import GatewayProcess, launched, patiently

AT_ONCE = 50


def ask(gateway: Gateway, key: str, content: bytes = VIDEO, **params: Any) -> httpx.Response:
    return gateway.http.post("/v1/analyses", content=content, headers={**RAW, "Idempotency-Key": key}, params=params)


def same(first: httpx.Response, again: httpx.Response) -> bool:
    return all(
        one(first) == one(again)
        for one in (
            lambda it: it.status_code,
            lambda it: it.content,
            lambda it: it.headers["location"],
            lambda it: it.headers["retry-after"],
        )
    )


def test_the_same_request_gets_the_same_answer_whatever_became_of_the_analysis(gateway: Gateway) -> None:
    first = ask(gateway, "k", sample_fps=4)
    assert (first.status_code, first.json()["options"]["sample_fps"]) == (202, 4)
    assert same(first, ask(gateway, "k", sample_fps=4))
    lease = gateway.claim()
    assert same(first, ask(gateway, "k", sample_fps=4))
    gateway.worker.succeed(lease, Timings(total=5))
    assert same(first, ask(gateway, "k", sample_fps=4))
    assert len(gateway.get("/v1/analyses")["analyses"]) == 1
    assert {path.partition("/")[2].partition("/")[0] for path in gateway.files()} == {first.json()["id"]}


def test_how_it_was_written_down_makes_no_difference(gateway: Gateway) -> None:
    first = ask(gateway, "k", sample_fps="4")
    form = gateway.http.post("/v1/analyses", files={"video": VIDEO}, data={"sample_fps": "4.0"}, headers={"Idempotency-Key": "k"})
    assert same(first, form)


@pytest.mark.parametrize(("content", "params"), [(VIDEO + b"!", {}), (VIDEO, {"sample_fps": 5}), (VIDEO, {"keep_video": "true"})])
def test_another_request_with_the_key_is_refused(gateway: Gateway, content: bytes, params: dict[str, Any]) -> None:
    first = ask(gateway, "k")
    refused = ask(gateway, "k", content, **params)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-key-reused")
    assert same(first, ask(gateway, "k"))
    assert len(gateway.files()) == 3


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none(lasting_gateway: Gateway, key: str) -> None:
    refused = ask(lasting_gateway, key)
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-invalid")
    assert lasting_gateway.settles_to_nothing()


def test_while_the_first_is_being_answered_the_second_waits(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\nIdempotency-Key: k\r\n")
        connection.sendall(f"Content-Length: {len(VIDEO)}\r\n\r\n".encode() + VIDEO[:10])
        wait_until(lambda: gateway.files() != [])
        refused = ask(gateway, "k")
        assert (refused.status_code, refused.json()["code"]) == (409, "idempotency-request-in-progress")
        assert int(refused.headers["retry-after"]) > 0
        connection.sendall(VIDEO[10:])
        assert read_answer(connection)[0] == 202
    assert ask(gateway, "k").status_code == 202
    assert len(gateway.get("/v1/analyses")["analyses"]) == 1


def test_a_request_that_failed_leaves_its_key_free(gateway: Gateway) -> None:
    assert ask(gateway, "k", b"").status_code == 422
    assert ask(gateway, "k").status_code == 202


def test_after_deletion_the_key_is_free(gateway: Gateway) -> None:
    first = ask(gateway, "k").json()["id"]
    gateway.http.delete(f"/v1/analyses/{first}")
    assert ask(gateway, "k").json()["id"] != first


def test_what_the_client_called_it_is_not_kept(gateway: Gateway) -> None:
    ask(gateway, "holiday of Ada Lovelace")
    kept = b"".join((gateway.data / name).read_bytes() for name in gateway.files())
    assert b"Lovelace" not in kept


# --- row D4: a gateway of its own, with tenants, killed ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


@pytest.fixture
def ada(folder: KeyFolder) -> str:
    return folder.create(tenant="ada", roles=[Role.CLIENT], purpose=Purpose.RESEARCH).written


@pytest.fixture
def bob(folder: KeyFolder) -> str:
    return folder.create(tenant="bob", roles=[Role.CLIENT], purpose=Purpose.RESEARCH).written


@pytest.fixture
def guarded(redis_server: RedisServer, tmp_path: Path, ada: str, bob: str) -> Iterator[GatewayProcess]:
    with launched(redis_url=redis_server.url, data=tmp_path / "data", api_keys=tmp_path / "keys") as process:
        yield process


def test_one_key_fifty_requests_at_once_two_tenants_and_two_crashes(
    guarded: GatewayProcess, redis_server: RedisServer, ada: str, bob: str
) -> None:
    key = str(uuid4())

    def post(api_key: str, content: bytes = VIDEO) -> httpx.Response:
        headers = {**RAW, "Idempotency-Key": key, "Authorization": f"Bearer {api_key}"}
        return patiently(lambda: httpx.post(f"{guarded.url}/v1/analyses", content=content, headers=headers, trust_env=False, timeout=60))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: post(ada), range(AT_ONCE)))
    assert set(Counter(answer.status_code for answer in answers)) <= {202, 409}
    taken = [answer for answer in answers if answer.status_code == 202]
    assert taken
    assert len({answer.content for answer in taken}) == 1
    first = taken[0]

    for crash in (lambda: None, lambda: (guarded.kill(), guarded.start()), lambda: (redis_server.kill(), redis_server.start())):
        crash()
        again = post(ada)
        assert same(first, again), again.text
        changed = post(ada, VIDEO + b"!")
        assert (changed.status_code, changed.json()["code"]) == (422, "idempotency-key-reused")
        assert post(bob).json()["id"] != first.json()["id"]
    for api_key in (ada, bob):
        listed = httpx.get(f"{guarded.url}/v1/analyses", headers={"Authorization": f"Bearer {api_key}"}, trust_env=False).json()
        assert len(listed["analyses"]) == 1

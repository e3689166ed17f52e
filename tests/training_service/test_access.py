"""Who may train, publish and look on: every operation of the description by everybody."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.training.app import create_app
from services.training.settings import ServiceSettings
from services.web.guard import Guard
from tests.web.callers import REFUSED, Callers, callers
from tests.web.matrix import described, wrongly_answered
from tests.web_server import listening


@pytest.fixture
def asked(tmp_path: Path) -> Callers:
    return callers(tmp_path / "keys")


@pytest.fixture
def http(asked: Callers, tmp_path: Path) -> Iterator[httpx.Client]:
    for name in ("runs", "crops", "models"):
        (tmp_path / name).mkdir()
    settings = ServiceSettings(
        runs=tmp_path / "runs", crops=tmp_path / "crops", models=tmp_path / "models", redis_url="redis://127.0.0.1:1"
    )
    with (
        listening(create_app(settings, stopping=threading.Event(), guard=Guard(asked.keys))) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=60) as http,
    ):
        yield http


def test_every_operation_answers_everybody_as_its_roles_promise(http: httpx.Client, asked: Callers) -> None:
    schema = http.get("/openapi.json").json()
    assert len(list(described(schema))) >= 20
    assert wrongly_answered(schema, http, asked, {}) == []


def test_only_publishers_change_anything(http: httpx.Client) -> None:
    changing = {it.name: it.roles for it in described(http.get("/openapi.json").json()) if not it.name.startswith("GET ")}
    assert changing
    assert set(changing.values()) == {frozenset({"publisher"})}


def test_a_strangers_plan_is_not_even_read(http: httpx.Client, asked: Callers) -> None:
    def answer(who: str, content: bytes) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", **asked.headers[who]}
        answered = http.post("/v1/runs", content=content, headers=headers)
        return answered.status_code, answered.json()["code"]

    for body in (b"{not json", b" " * (2 * 1024 * 1024)):
        for who in REFUSED:
            assert answer(who, body) == (401, "unauthenticated")
    assert answer("publisher", b"{not json") == (422, "validation-failed")
    assert answer("publisher", b" " * (2 * 1024 * 1024)) == (413, "body-too-large")


def test_requests_are_counted_for_ops_to_see_as_the_gateways_are(http: httpx.Client, asked: Callers) -> None:
    assert http.get("/v1/runs/000000").status_code == 401
    assert http.get("/v1/runs/000000", headers=asked.headers["ops"]).status_code == 404
    assert [http.get("/metrics", headers=asked.headers[who]).status_code for who in ("nobody", "client", "publisher")] == [401, 403, 403]
    text = http.get("/metrics", headers=asked.headers["ops"]).text
    for status in (401, 404):
        assert f'mien_training_requests_total{{method="GET",route="/v1/runs/{{run_id}}",status="{status}"}} 1.0' in text
    assert 'mien_training_request_seconds_count{method="GET",route="/v1/runs/{run_id}"} 2.0' in text
    assert 'mien_training_problems_total{code="unauthenticated"}' in text

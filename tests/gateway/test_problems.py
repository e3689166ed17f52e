"""Every error has one shape, also those that FastAPI and Starlette raise, and says nothing about the inside."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from services.gateway.problems import STATUS
from services.gateway.schemas import Problem
from shared.errors import (
    ApiKeyRequired,
    ApiKeyUnknown,
    AttemptsExhausted,
    CandidateRefused,
    JobError,
    KeyUnusable,
    MienError,
    NothingToRollBack,
    PublicationConflict,
    QueueUnavailable,
    TrainingError,
    WebhookError,
)
from shared.logs import JsonLines
from tests.gateway.conftest import RAW, Gateway, wait_until


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/nothing", 404, "not-found", None),
        ("GET", "/v2/analyses", 404, "not-found", None),
        ("GET", "/v1/analyses/", 404, "not-found", None),
        ("GET", "/problems/no-such-code", 404, "not-found", None),
        ("PUT", "/v1/analyses", 405, "method-not-allowed", "GET, HEAD, POST"),
        ("POST", "/v1/analyses/an_1", 405, "method-not-allowed", "DELETE, GET, HEAD"),
        ("GET", "/v1/analyses/an_1:cancel", 405, "method-not-allowed", "POST"),
        ("DELETE", "/v1/webhooks/wh_1/deliveries/msg_1:redeliver", 405, "method-not-allowed", "POST"),
        ("PUT", "/v1/uploads", 405, "method-not-allowed", "OPTIONS, POST"),
        ("POST", "/healthz", 405, "method-not-allowed", "GET, HEAD"),
        ("BREW", "/healthz", 405, "method-not-allowed", "GET, HEAD"),
        ("GET", "/v1/analyses?page_size=-1", 422, "validation-failed", None),
    ],
)
def test_errors_of_the_framework_are_problems(
    lasting_gateway: Gateway, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    response = lasting_gateway.http.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("allow") == allow
    problem = Problem.model_validate_json(response.content)
    assert (problem.code, problem.status, problem.type) == (code, status, f"/problems/{code}")
    assert problem.instance == path.partition("?")[0]
    assert problem.request_id == response.headers["x-request-id"]


class Lines(logging.Handler):
    """What a service would have written, taken apart again."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines("gateway"))
        self.written: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(json.loads(self.format(record)))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    handler, services = Lines(), logging.getLogger("services")
    services.addHandler(handler)
    with caplog.at_level(logging.INFO, logger="services"):
        yield handler.written
    services.removeHandler(handler)


def test_a_bug_is_a_problem_without_details_and_a_log_line_with_them(gateway: Gateway, lines: list[dict[str, Any]]) -> None:
    async def boom() -> None:
        raise RuntimeError("secret of /etc/passwd")

    gateway.app.add_api_route("/boom", boom)
    response = gateway.http.get("/boom", headers={"X-Request-Id": "call-42"})
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.code, problem.request_id) == (500, "internal-error", "call-42")
    assert "secret" not in response.text
    (logged,) = [line for line in lines if "traceback" in line]
    assert logged["request_id"] == "call-42"
    assert "secret of /etc/passwd" in logged["traceback"]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ('"', False), ("", False)]
)
def test_a_sane_request_id_is_kept(lasting_gateway: Gateway, given: str, kept: bool) -> None:
    answered = lasting_gateway.http.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert (answered == given) is kept
    assert answered


@pytest.mark.parametrize("path", ["/healthz", "/v1/analyses", "/nothing", "/openapi.json", "/docs", "/problems"])
def test_headers_that_every_response_carries(lasting_gateway: Gateway, path: str) -> None:
    headers = lasting_gateway.http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"]
    assert (headers.get("cache-control") == "no-store") is path.startswith("/v1")
    assert "server" not in headers


def test_every_request_is_one_line(gateway: Gateway, lines: list[dict[str, Any]]) -> None:
    posted = gateway.post()
    gateway.http.get("/nothing", headers={"X-Request-Id": "mine"})
    wait_until(lambda: len(lines) == 3)
    accepted, *requests = lines
    assert (accepted["event"], accepted["job_id"], accepted["request_id"]) == ("accepted", posted["id"], requests[0]["request_id"])
    assert accepted["size_bytes"] == posted["size_bytes"]
    assert [(line["method"], line["route"], line["status"]) for line in requests] == [
        ("POST", "/v1/analyses", 202),
        ("GET", "unmatched", 404),
    ]
    assert requests[1]["request_id"] == "mine"
    assert all(line["ms"] >= 0 for line in requests)
    assert posted["id"] not in json.dumps([line["event"] for line in requests])


def below(error: type[MienError]) -> Iterator[type[MienError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from below(kind)


ONLY_TOLD_TO_WHO_ASKS = {QueueUnavailable, JobError, *below(JobError)} - {AttemptsExhausted}
OF_TRAINING = {TrainingError, *below(TrainingError)}
OF_WEBHOOKS = {WebhookError, *below(WebhookError)}
OF_KEYS = {ApiKeyRequired, ApiKeyUnknown}
OF_PUBLISHING = {CandidateRefused, *below(CandidateRefused), KeyUnusable, NothingToRollBack, PublicationConflict}
IN_JOBS = {kind for kind in below(MienError) if kind.__module__ == "shared.errors"} - ONLY_TOLD_TO_WHO_ASKS - OF_TRAINING - OF_PUBLISHING
IN_JOBS -= OF_WEBHOOKS | OF_KEYS
"""Whatever a Failure may carry: all that goes wrong, but for what is said about a request, a webhook, a key, training or its candidates."""


@pytest.mark.parametrize("code", sorted({kind.code() for kind in IN_JOBS | STATUS.keys()}))
def test_every_code_has_a_page(lasting_gateway: Gateway, code: str) -> None:
    response = lasting_gateway.http.get(f"/problems/{code}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert code in response.text
    assert f"/problems/{code}" in lasting_gateway.http.get("/problems").text
    assert ("Appears as the `failure` of an analysis." in response.text) == (code in {kind.code() for kind in IN_JOBS})


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/v1/analyses", 200), ("/metrics", 200), ("/nothing", 404)])
def test_a_head_is_answered_like_a_get_without_the_body(lasting_gateway: Gateway, path: str, status: int) -> None:
    head, get = lasting_gateway.http.head(path), lasting_gateway.http.get(path)
    assert (head.status_code, head.content) == (status, b"")
    assert get.status_code == status
    assert head.headers["content-type"] == get.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


def test_a_wall_of_headers_is_cut_off(lasting_gateway: Gateway) -> None:
    status, _ = lasting_gateway.raw(b"GET /healthz HTTP/1.1\r\nHost: mien\r\n" + b"X: x\r\n" * 20_000)
    assert status == 400


@pytest.mark.parametrize(
    "line",
    ["GET {} HTTP/1.1\r\nHost: [", "GET {} HTTP/1.1\r\nHost: ", "GET http://[/{} HTTP/1.1\r\nHost: x", "GET {}%00%0d HTTP/1.0\r\nX: y"],
)
@pytest.mark.parametrize("path", ["/healthz", "/v1/analyses/an_1", "/nothing"])
def test_odd_requests_are_no_bugs(lasting_gateway: Gateway, path: str, line: str) -> None:
    status, _ = lasting_gateway.raw(f"{line.format(path)}\r\nConnection: close\r\n\r\n".encode())
    assert status < 500


@pytest.mark.parametrize("path", ["/healthz", "/v1/analyses", "/v1/analyses/an_1:cancel"])
def test_a_body_that_nobody_wants_does_not_hang_the_connection(lasting_gateway: Gateway, path: str) -> None:
    response = lasting_gateway.http.put(path, content=b"x" * 1_000_000, headers=RAW)
    assert response.status_code in {404, 405}
    assert lasting_gateway.http.get("/healthz").status_code == 200

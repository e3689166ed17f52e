"""A small service of another kind, on what all services share: its own errors, its own fields, its own metrics."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import Field

from services.web import schemas
from services.web.app import assemble
from services.web.bodies import WholeBodies
from services.web.catalogue import Catalogue
from services.web.errors import DependencyUnavailable, RequestError
from services.web.guard import Guard
from services.web.health import readiness
from services.web.metrics import RequestMetrics
from services.web.openapi import documented
from services.web.problems import RETRY_AFTER_S, STATUSES, Problems
from services.web.schemas import Readiness
from shared.errors import DataUnusable, InsufficientStorage, QueueUnavailable, StorageError
from tests.web_server import Listening, listening


class TeaOnly(RequestError):
    """This pot makes tea.

    `drink` is what it was asked for.
    """

    retryable = True


class Problem(schemas.Problem):
    """What went wrong."""

    drink: Annotated[str | None, Field(examples=[None])] = None
    """Of `tea-only`: what the pot was asked for."""


PROBLEMS = Problems(
    statuses={**STATUSES, TeaOnly: HTTPStatus.IM_A_TEAPOT},
    retry_after_s={**RETRY_AFTER_S, TeaOnly: 7},
    shape=Problem,
    examples={TeaOnly: {"drink": "coffee"}},
)
RAISED = {
    "tea": TeaOnly("no coffee here", drink="coffee", password="secret"),
    "bug": DataUnusable("secret: a class that is not in the table"),
    "queue": QueueUnavailable("secret host"),
    "storage": StorageError("/secret/path"),
    "disk": InsufficientStorage("/secret/path"),
}

WITHIN_S = 1.0
"""For a body that is read whole."""
ECHO = b"POST /v1/echo HTTP/1.1\r\nHost: pot\r\nContent-Type: application/json\r\n"

router = APIRouter()


@router.get("/v1/raise/{name}", summary="Fail", responses=documented(PROBLEMS, TeaOnly))
async def fail(name: str) -> str:
    """Raises what it is told to."""
    raise RAISED[name]


@router.get("/v1/kept")
async def kept(response: Response) -> str:
    response.headers["Cache-Control"] = "max-age=60"
    return "kept"


@router.post("/v1/echo")
async def echo(words: Annotated[list[str], Body()]) -> list[str]:
    return words


@router.get("/v1/drops")
async def drops() -> StreamingResponse:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(WITHIN_S / 2)
            yield b"drop"

    return StreamingResponse(slowly())


@router.get("/readyz/{broken}")
async def ready(broken: str) -> Readiness:
    async def pot() -> str:
        if broken == "pot":
            raise DependencyUnavailable("the pot is empty")
        return "full"

    async def stove() -> str:
        if broken == "stove":
            raise StorageError("/secret/stove")
        return ""

    return await readiness({"pot": pot(), "stove": stove()})


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="module")
def app(registry: CollectorRegistry) -> FastAPI:
    return assemble(
        title="Pot",
        description="Makes tea.",
        tags=(),
        routers=(router, Catalogue(PROBLEMS, failures=(DataUnusable,), work="a brew").router()),
        problems=PROBLEMS,
        metrics=RequestMetrics("pot", registry),
        lifespan=lifespan,
        guard=Guard(),
        bodies=WholeBodies(max_bytes=1000, within_s=WITHIN_S),
    )


@pytest.fixture(scope="module")
def service(app: FastAPI) -> Iterator[Listening]:
    with listening(app) as service:
        yield service


@pytest.fixture(scope="module")
def http(service: Listening) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "status", "code", "dependency", "retry_after"),
    [
        ("tea", 418, "tea-only", None, "7"),
        ("bug", 500, "internal-error", None, None),
        ("queue", 503, "dependency-unavailable", "redis", "5"),
        ("storage", 503, "dependency-unavailable", "storage", "5"),
        ("disk", 507, "insufficient-storage", None, "60"),
    ],
)
def test_an_error_is_answered_by_the_table_and_nothing_of_the_inside_is_said(
    http: httpx.Client, name: str, status: int, code: str, dependency: str | None, retry_after: str | None
) -> None:
    response = http.get(f"/v1/raise/{name}")
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.status, problem.code, problem.dependency) == (status, status, code, dependency)
    assert problem.instance == f"/v1/raise/{name}"
    assert response.headers.get("retry-after") == retry_after
    assert "secret" not in response.text


def test_an_error_says_more_where_the_service_has_a_field_for_it(http: httpx.Client) -> None:
    body = http.get("/v1/raise/tea").json()
    assert (body["drink"], body["detail"]) == ("coffee", "no coffee here")
    assert "password" not in body


def test_what_the_client_may_not_see_is_in_the_log(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="services.web"):
        http.get("/v1/raise/bug", headers={"X-Request-Id": "call-1"})
    (record,) = caplog.records
    assert record.__dict__["request_id"] == "call-1"
    assert record.exc_info
    assert "a class that is not in the table" in caplog.text


@pytest.mark.parametrize(
    ("content", "status", "code", "field"),
    [
        (b'["a"]', 200, None, None),
        (b'["a", 1]', 422, "validation-failed", "body.1"),
        (b"[", 422, "validation-failed", "body.1"),
        (b'["' + b"x" * 1000 + b'"]', 413, "body-too-large", None),
    ],
)
def test_a_body_is_read_whole_and_within_limits(
    http: httpx.Client, content: bytes, status: int, code: str | None, field: str | None
) -> None:
    response = http.post("/v1/echo", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    if code is not None:
        problem = Problem.model_validate_json(response.content)
        assert problem.code == code
        assert [one.field for one in problem.errors or ()] == ([field] if field else [])
    assert http.get("/v1/kept").status_code == 200


def test_a_body_of_unknown_length_is_limited_too(http: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'["'
        for _ in range(100):
            yield b"x" * 100

    response = http.post("/v1/echo", content=pieces(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("framing", [b"Content-Length: 900\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_comes_byte_by_byte_is_not_waited_for(service: Listening, framing: bytes, caplog: pytest.LogCaptureFixture) -> None:
    byte = b"1\r\nx\r\n" if b"chunked" in framing else b"x"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(ECHO + framing)
        connection.settimeout(0.05)
        answer, began = b"", time.monotonic()
        while not answer:
            connection.sendall(byte)
            with suppress(TimeoutError):
                answer = connection.recv(65_536)
        assert time.monotonic() - began > WITHIN_S * 0.9
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"body-too-slow"' in answer
        assert b"connection: close" in answer.lower()
        connection.settimeout(20)
        with suppress(ConnectionResetError):
            while connection.recv(65_536):
                """Until it is hung up on."""
    assert "unhandled error" not in caplog.text


def test_a_body_that_takes_a_while_is_read(service: Listening) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(ECHO + b"Content-Length: 5\r\n\r\n")
        for byte in b'["a"]':
            time.sleep(WITHIN_S / 20)
            connection.sendall(bytes([byte]))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_the_answer_to_a_whole_body_may_take_longer_than_its_body_may(http: httpx.Client) -> None:
    with http.stream("GET", "/v1/drops") as response:
        assert b"".join(response.iter_raw()) == b"drop" * 3


def test_the_api_is_not_cached_unless_a_route_says_so(http: httpx.Client) -> None:
    assert http.get("/v1/kept").headers["cache-control"] == "max-age=60"
    assert http.get("/v1/raise/tea").headers["cache-control"] == "no-store"


def test_ready_or_why_not(http: httpx.Client) -> None:
    assert {name: check["detail"] for name, check in http.get("/readyz/nothing").json()["checks"].items()} == {"pot": "full", "stove": ""}
    for name, said in {"pot": "the pot is empty", "stove": StorageError.title()}.items():
        body = http.get(f"/readyz/{name}").json()
        assert (body["code"], body["dependency"], body["detail"]) == ("dependency-unavailable", name, f"{name}: {said}")
        assert body["checks"]["pot"]["ok"] is (name != "pot")


def test_the_catalogue_holds_the_services_own_codes(http: httpx.Client) -> None:
    index = http.get("/problems").text
    assert all(f"/problems/{kind.code()}'" in index for kind in (*PROBLEMS.statuses, DataUnusable))
    pot = http.get("/problems/tea-only").text
    assert "HTTP status: 418" in pot
    assert "`drink` is what it was asked for." in pot
    assert "Appears as the `failure`" not in pot
    assert "Appears as the `failure` of a brew." in http.get("/problems/data-unusable").text
    assert http.get("/problems/media-empty").json()["code"] == "not-found"


def test_the_description_shows_the_services_own_problem(app: FastAPI) -> None:
    schema: dict[str, Any] = app.openapi()
    assert schema["info"]["description"] == "Makes tea."
    assert "drink" in schema["components"]["schemas"]["Problem"]["properties"]
    content = schema["paths"]["/v1/raise/{name}"]["get"]["responses"]["418"]["content"]["application/problem+json"]
    problem = Problem.model_validate(content["examples"]["tea-only"]["value"])
    assert (problem.code, problem.drink) == ("tea-only", "coffee")
    assert "422" not in schema["paths"]["/v1/raise/{name}"]["get"]["responses"]


def test_metrics_carry_the_services_name(http: httpx.Client, registry: CollectorRegistry) -> None:
    http.get("/v1/kept")
    text = generate_latest(registry).decode()
    assert 'mien_pot_requests_total{method="GET",route="/v1/kept",status="200"}' in text


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5000\r\n\r\n",
        b"Content-Length: 500\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n",
    ],
    ids=["announced", "never sent", "oversized"],
)
def test_a_stream_goes_on_when_its_client_sends_what_nobody_reads(
    service: Listening, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"GET /v1/drops HTTP/1.1\r\nHost: pot\r\n" + body)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"drop") == 3
    assert [line for line in caplog.records if line.exc_info or line.levelno >= logging.ERROR] == []

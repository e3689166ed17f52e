"""Around every request: its id, the headers all responses share, one line in the log, its metrics and span, and no error that gets
away."""

import logging
import re
from time import perf_counter
from typing import Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.limits import rate_limit_headers
from services.web.metrics import RequestMetrics
from services.web.problems import CLIENT_CLOSED_REQUEST, Problems
from shared.errors import InternalError
from shared.logs import about
from shared.tracing import Span, Tracing, traceparent_of

log = logging.getLogger(__name__)

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Access:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics, problems: Problems, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._problems = problems
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        parent = traceparent_of(headers.get("traceparent", ""))
        with about(request_id=request_id), self._tracing.span("request", parent=parent, request_id=request_id) as span:
            scope.setdefault("state", {}).update(request_id=request_id, traceparent=span.traceparent)
            await self._answer(scope, receive, send, span)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        method, request_id = scope["method"], scope["state"]["request_id"]
        if method == "HEAD":  # is answered like a GET; the server keeps the body to itself
            scope = {**scope, "method": "GET"}
        started = perf_counter()
        answered: tuple[int, float] | None = None

        async def send_ours(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"], perf_counter() - started
                headers = MutableHeaders(scope=message)
                add_headers(headers, request_id=request_id, path=scope["path"])
                headers.update(rate_limit_headers(scope["state"].get("standings", ())))
            await send(message)

        try:
            await self._app(scope, receive, send_ours)
        except Exception:
            log.exception("unhandled error")
            if answered is None:
                await self._problems.respond(Request(scope), InternalError())(scope, receive, send_ours)
        finally:
            # Without an answer the request was cut off: the server is stopping.
            status, seconds = answered or (CLIENT_CLOSED_REQUEST, perf_counter() - started)
            self._record(scope, span, method=method, status=status, seconds=seconds)

    def _record(self, scope: Scope, span: Span, *, method: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", "unmatched")
        method = method if method in METHODS else "other"
        problem = scope["state"].get("problem", "")
        self._metrics.answered(route=route, method=method, status=status, seconds=seconds, problem=problem)
        said = {"method": method, "route": route, "status": status} | ({"problem": problem} if problem else {})
        span.tell(f"{method} {route}", **said)
        log.info("request", extra=said | {"ms": round(seconds * 1000, 1)})


def request_id_of(headers: Headers) -> str:
    """The client's own id when it is one that can stand in a log line, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid4().hex


def add_headers(headers: MutableHeaders, *, request_id: str, path: str) -> None:
    headers["X-Request-Id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    if path.startswith("/v1/"):
        headers.setdefault("Cache-Control", "no-store")

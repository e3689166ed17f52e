"""Every way a request can go wrong, and the one shape in which that is said: RFC 9457 `application/problem+json`.

A service lists its errors once, in a `Problems`: the handlers here, the OpenAPI description and the pages under `/problems`
all read it. Errors that are not in it are bugs, and answer 500 `internal-error` without a word about why.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from services.web.errors import (
    BodyTooLarge,
    BodyTooSlow,
    DependencyUnavailable,
    Forbidden,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    UseNotPermitted,
    ValidationFailed,
)
from services.web.schemas import FieldError, Problem
from shared.errors import InsufficientStorage, InternalError, MienError, QueueUnavailable, QuotaExceeded, StorageError

log = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
CLIENT_CLOSED_REQUEST: Final = 499
"""Never reaches anyone: marks a request whose client went away, in the log and in the metrics."""


class ExtensionStatus(IntEnum):
    """Statuses that an extension of HTTP has defined, and nobody has registered."""

    CHECKSUM_MISMATCH = 460
    """tus 1.0, section "Checksum"."""

    @property
    def phrase(self) -> str:
        return self.name.replace("_", " ").title()


Status = HTTPStatus | ExtensionStatus

STATUSES: Final[Mapping[type[MienError], Status]] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    UseNotPermitted: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ValidationFailed: HTTPStatus.UNPROCESSABLE_ENTITY,
    QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    DependencyUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    InsufficientStorage: HTTPStatus.INSUFFICIENT_STORAGE,
}
"""What any service may answer."""

RETRY_AFTER_S: Final[Mapping[type[MienError], int]] = {DependencyUnavailable: 5, InsufficientStorage: 60, QuotaExceeded: 60}
"""When any service is worth asking again, unless the error knows better: then its `extra` has `retry_after_s`."""

HEADERS: Final[Mapping[type[MienError], Mapping[str, str]]] = {Unauthenticated: {"WWW-Authenticate": 'Bearer realm="mien"'}}
"""What else HTTP wants to be said."""

OF_STATUS: Final[Mapping[int, type[MienError]]] = {
    401: Unauthenticated,
    404: NotFound,
    405: MethodNotAllowed,
    408: BodyTooSlow,
    413: BodyTooLarge,
}
"""What FastAPI and Starlette mean by the statuses they raise themselves."""


@dataclass(frozen=True, kw_only=True)
class Problems:
    """The errors that one service answers with."""

    statuses: Mapping[type[MienError], Status]
    """The only place where a code meets an HTTP status. Begin it with `**STATUSES`."""
    retry_after_s: Mapping[type[MienError], int]
    """What the `Retry-After` header of these says. Begin it with `**RETRY_AFTER_S`."""
    shape: type[Problem] = Problem
    """Its optional fields are what an error's `extra` may add to its problem."""
    examples: Mapping[type[MienError], Mapping[str, Any]] = field(default_factory=dict)
    """The `extra` that the description of the API shows."""

    def in_public(self, error: MienError) -> MienError:
        """The error a client may see: what a dependency said about hosts and paths stays inside."""
        match error:
            case QueueUnavailable():
                return DependencyUnavailable("The job queue does not answer.", dependency="redis")
            case InsufficientStorage():
                return InsufficientStorage()
            case StorageError():
                return DependencyUnavailable("The storage does not take or give bytes.", dependency="storage")
            case _ if type(error) in self.statuses:
                return error
            case _:
                return InternalError()

    def problem(self, error: MienError, *, instance: str, request_id: str) -> Problem:
        """`error`, which is one of `statuses`, in the shape of RFC 9457."""
        return self.shape(
            type=f"/problems/{error.code()}",
            title=error.title(),
            status=self.statuses[type(error)],
            detail=error.detail or error.title(),
            instance=instance,
            code=error.code(),
            retryable=error.retryable,
            request_id=request_id,
            **{name: value for name, value in error.extra.items() if name in self.extensions()},
        )

    def extensions(self) -> frozenset[str]:
        return frozenset(name for name, of in self.shape.model_fields.items() if not of.is_required())

    def respond(self, request: Request, error: MienError, headers: Mapping[str, str] | None = None) -> Response:
        """Answer with `error`, or with as much of it as a client may see."""
        error = self.in_public(error)
        kind = type(error)
        # Not `request.url`, which believes the Host header.
        problem = self.problem(error, instance=request.scope["path"], request_id=request.state.request_id)
        request.state.problem = problem.code
        retry_after_s = error.extra.get("retry_after_s", self.retry_after_s.get(kind))
        retry_after = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return JSONResponse(
            problem.model_dump(mode="json", exclude_none=True),
            status_code=problem.status,
            headers={**retry_after, **HEADERS.get(kind, {}), **(headers or {})},
            media_type=PROBLEM_JSON,
        )


def install(app: FastAPI, problems: Problems) -> None:
    """Answer every error of `app` with a problem."""
    app.add_exception_handler(MienError, partial(on_error, problems))
    app.add_exception_handler(RequestValidationError, partial(on_invalid, problems))
    app.add_exception_handler(HTTPException, partial(on_http_exception, problems))
    app.add_exception_handler(ClientDisconnect, on_disconnect)


async def on_error(problems: Problems, request: Request, error: Exception) -> Response:
    assert isinstance(error, MienError)  # noqa: S101 -- what it is registered for
    public = problems.in_public(error)
    ours = error if problems.statuses[type(public)] is HTTPStatus.INTERNAL_SERVER_ERROR else None
    if ours or public is not error:
        log.warning("said less", extra={"request_id": request.state.request_id, "error": repr(error)}, exc_info=ours)
    return problems.respond(request, public)


async def on_invalid(problems: Problems, request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- what it is registered for
    errors = [FieldError(field=".".join(map(str, one["loc"])), code=one["type"], message=one["msg"]) for one in error.errors()]
    return problems.respond(request, ValidationFailed("; ".join(f"{one.field}: {one.message}" for one in errors), errors=errors))


async def on_http_exception(problems: Problems, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- what it is registered for
    kind = OF_STATUS.get(error.status_code, MalformedRequest if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError)
    headers = {"Allow": ", ".join(allowed_methods(request))} if kind is MethodNotAllowed else None
    return problems.respond(request, kind(), headers)


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def allowed_methods(request: Request) -> list[str]:
    """Every method this address takes. (Starlette's own `Allow` names only the first route that fits.)"""
    scopes = {method: {**request.scope, "method": method} for method in ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")}
    taken = {method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)}
    return sorted(taken | {"HEAD"} if "GET" in taken else taken)  # `Access` answers the one like the other

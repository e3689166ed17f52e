"""Every way a request can go wrong, and the one shape in which that is said: RFC 9457 `application/problem+json`.

`STATUS` is the only place where a code meets an HTTP status: the handlers, the OpenAPI description and the pages under
`/problems` all read it. Errors that are not in it are bugs, and answer 500 `internal-error` without a word about why.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from services.gateway.schemas import FieldError, Problem
from shared.errors import (
    InsufficientStorage,
    InternalError,
    JobNotFound,
    MediaEmpty,
    MienError,
    QueueUnavailable,
    ResultGone,
    ResultNotReady,
    ResultUnreadable,
    StateConflict,
    StorageError,
)

log = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
CLIENT_CLOSED_REQUEST: Final = 499
"""Never reaches anyone: marks a request whose client went away, in the log and in the metrics."""


class RequestError(MienError):
    """The request cannot be served."""


class MalformedRequest(RequestError):
    """The request is not well-formed.

    The body is not the multipart form that its Content-Type promises, or has more parts or longer headers than allowed.
    """


class NotFound(RequestError):
    """There is nothing at this address."""


class MethodNotAllowed(RequestError):
    """This address does not take this method.

    The `Allow` header names those it takes.
    """


class UploadTooSlow(RequestError):
    """The video arrives too slowly.

    An upload may pause for at most 10 seconds and must bring 32 KiB per second once it has begun.
    """

    retryable = True


class UploadTooLarge(RequestError):
    """The video is larger than the limit.

    `limit_bytes` is the size of the largest video that is taken.
    """


class UnsupportedMediaType(RequestError):
    """The body is of a type that is not taken.

    `accepted` lists the types that are. A compressed body (Content-Encoding) is not taken either.
    """


class ValidationFailed(RequestError):
    """A parameter or a form field is not valid.

    `errors` names each of them.
    """


class DependencyUnavailable(RequestError):
    """A part that Mien depends on does not answer.

    `dependency` names the part.
    """

    retryable = True


STATUS: Final[Mapping[type[MienError], HTTPStatus]] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    JobNotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    StateConflict: HTTPStatus.CONFLICT,
    ResultNotReady: HTTPStatus.CONFLICT,
    ResultGone: HTTPStatus.GONE,
    UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ValidationFailed: HTTPStatus.UNPROCESSABLE_ENTITY,
    MediaEmpty: HTTPStatus.UNPROCESSABLE_ENTITY,
    ResultUnreadable: HTTPStatus.INTERNAL_SERVER_ERROR,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    DependencyUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    InsufficientStorage: HTTPStatus.INSUFFICIENT_STORAGE,
}

RETRY_AFTER_S: Final[Mapping[type[MienError], int]] = {ResultNotReady: 1, DependencyUnavailable: 5, InsufficientStorage: 60}

EXTENSIONS: Final = frozenset({"errors", "limit_bytes", "accepted", "dependency", "checks", "state", "failure"})
"""What an error's `extra` may add to its problem."""

OF_STATUS: Final[Mapping[int, type[MienError]]] = {404: NotFound, 405: MethodNotAllowed, 413: UploadTooLarge}
"""What FastAPI and Starlette mean by the statuses they raise themselves."""


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    app.add_exception_handler(MienError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(ClientDisconnect, on_disconnect)


def respond(request: Request, error: MienError, headers: Mapping[str, str] | None = None) -> Response:
    """Say `error` in the shape of RFC 9457."""
    error = in_public(error)
    kind = type(error)
    problem = Problem(
        type=f"/problems/{error.code()}",
        title=error.title(),
        status=STATUS[kind],
        detail=error.detail or error.title(),
        instance=request.scope["path"],  # not `request.url`, which believes the Host header
        code=error.code(),
        retryable=error.retryable,
        request_id=request.state.request_id,
        **{name: value for name, value in error.extra.items() if name in EXTENSIONS},
    )
    retry_after = {"Retry-After": str(RETRY_AFTER_S[kind])} if kind in RETRY_AFTER_S else {}
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        status_code=STATUS[kind],
        headers={**retry_after, **(headers or {})},
        media_type=PROBLEM_JSON,
    )


def in_public(error: MienError) -> MienError:
    """The error a client may see: what a dependency said about hosts and paths stays inside."""
    match error:
        case QueueUnavailable():
            return DependencyUnavailable("The job queue does not answer.", dependency="redis")
        case InsufficientStorage():
            return InsufficientStorage()
        case StorageError():
            return DependencyUnavailable("The data folder does not take or give bytes.", dependency="storage")
        case _ if type(error) in STATUS:
            return error
        case _:
            return InternalError()


async def on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MienError)  # noqa: S101 -- what it is registered for
    public = in_public(error)
    if public is not error:
        bug = error if isinstance(public, InternalError) else None
        log.warning("said less", extra={"request_id": request.state.request_id, "error": repr(error)}, exc_info=bug)
    return respond(request, public)


async def on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- what it is registered for
    errors = [FieldError(field=".".join(map(str, one["loc"])), code=one["type"], message=one["msg"]) for one in error.errors()]
    return respond(request, ValidationFailed("; ".join(f"{one.field}: {one.message}" for one in errors), errors=errors))


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- what it is registered for
    kind = OF_STATUS.get(error.status_code, MalformedRequest if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError)
    headers = {"Allow": ", ".join(allowed_methods(request))} if kind is MethodNotAllowed else None
    return respond(request, kind(), headers)


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def allowed_methods(request: Request) -> list[str]:
    """Every method this address takes. (Starlette's own `Allow` names only the first route that fits.)"""
    scopes = {method: {**request.scope, "method": method} for method in ("DELETE", "GET", "PATCH", "POST", "PUT")}
    taken = {method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)}
    return sorted(taken | {"HEAD"} if "GET" in taken else taken)  # `Access` answers the one like the other

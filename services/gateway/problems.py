"""What the gateway answers errors with, beside what any service may."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from services.gateway.schemas import Problem
from services.web import problems as web
from services.web.errors import DependencyUnavailable, RequestError, ValidationFailed
from services.web.openapi import Responses, documented
from services.web.problems import Problems
from shared.errors import (
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyRequestInProgress,
    JobNotFound,
    MediaEmpty,
    MienError,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelVersionUnavailable,
    QueueFull,
    ReleaseUnsigned,
    ResultGone,
    ResultNotReady,
    ResultUnreadable,
    StateConflict,
)
from shared.jobs import JobState

MULTIPART: Final = "multipart/form-data"
ACCEPTED: Final = ("video/*", "application/octet-stream", MULTIPART)


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


class ModelCardMissing(RequestError):
    """The release has no model card."""


STATUS: Final[Mapping[type[MienError], HTTPStatus]] = {
    **web.STATUSES,
    IdempotencyKeyInvalid: HTTPStatus.BAD_REQUEST,
    JobNotFound: HTTPStatus.NOT_FOUND,
    ModelVersionUnavailable: HTTPStatus.NOT_FOUND,
    ModelCardMissing: HTTPStatus.NOT_FOUND,
    UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    StateConflict: HTTPStatus.CONFLICT,
    IdempotencyRequestInProgress: HTTPStatus.CONFLICT,
    ResultNotReady: HTTPStatus.CONFLICT,
    ResultGone: HTTPStatus.GONE,
    UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MediaEmpty: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    QueueFull: HTTPStatus.SERVICE_UNAVAILABLE,
    ResultUnreadable: HTTPStatus.INTERNAL_SERVER_ERROR,
    ModelContractMismatch: HTTPStatus.INTERNAL_SERVER_ERROR,
    ModelDigestMismatch: HTTPStatus.INTERNAL_SERVER_ERROR,
    ReleaseUnsigned: HTTPStatus.INTERNAL_SERVER_ERROR,
}

PROBLEMS: Final = Problems(
    statuses=STATUS,
    retry_after_s={**web.RETRY_AFTER_S, ResultNotReady: 1, IdempotencyRequestInProgress: 1, QueueFull: 10},
    shape=Problem,
    examples={
        ValidationFailed: {
            "errors": [{"field": "query.sample_fps", "code": "less_than_equal", "message": "Input should be less than or equal to 60"}]
        },
        UploadTooLarge: {"limit_bytes": 2147483648},
        UnsupportedMediaType: {"accepted": ACCEPTED},
        DependencyUnavailable: {"dependency": "redis"},
        StateConflict: {"state": JobState.SUCCEEDED},
        ResultNotReady: {"state": JobState.RUNNING},
    },
)


def problems(*kinds: type[MienError]) -> Responses:
    """For a route's `responses`: these errors, and the one that any request may meet."""
    return documented(PROBLEMS, *kinds)

"""What the gateway answers errors with, beside what any service may."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from services.gateway.schemas import Problem
from services.gateway.tus.errors import (
    MismatchingUploadOffset,
    TusVersionUnsupported,
    UploadBusy,
    UploadChecksumMismatch,
    UploadNotFound,
)
from services.web import problems as web
from services.web.errors import DependencyUnavailable, RequestError, ValidationFailed
from services.web.openapi import Responses, documented
from services.web.problems import ExtensionStatus, Problems, Status
from shared.errors import (
    DeliveryNotFound,
    Gone,
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
    WebhookDisabled,
    WebhookNotFound,
    WebhookUrlForbidden,
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


STATUS: Final[Mapping[type[MienError], Status]] = {
    **web.STATUSES,
    IdempotencyKeyInvalid: HTTPStatus.BAD_REQUEST,
    JobNotFound: HTTPStatus.NOT_FOUND,
    ModelVersionUnavailable: HTTPStatus.NOT_FOUND,
    ModelCardMissing: HTTPStatus.NOT_FOUND,
    UploadNotFound: HTTPStatus.NOT_FOUND,
    WebhookNotFound: HTTPStatus.NOT_FOUND,
    DeliveryNotFound: HTTPStatus.NOT_FOUND,
    UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    StateConflict: HTTPStatus.CONFLICT,
    IdempotencyRequestInProgress: HTTPStatus.CONFLICT,
    MismatchingUploadOffset: HTTPStatus.CONFLICT,
    UploadBusy: HTTPStatus.CONFLICT,
    WebhookDisabled: HTTPStatus.CONFLICT,
    ResultNotReady: HTTPStatus.CONFLICT,
    Gone: HTTPStatus.GONE,
    ResultGone: HTTPStatus.GONE,
    TusVersionUnsupported: HTTPStatus.PRECONDITION_FAILED,
    UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MediaEmpty: HTTPStatus.UNPROCESSABLE_ENTITY,
    WebhookUrlForbidden: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    UploadChecksumMismatch: ExtensionStatus.CHECKSUM_MISMATCH,
    QueueFull: HTTPStatus.SERVICE_UNAVAILABLE,
    ResultUnreadable: HTTPStatus.INTERNAL_SERVER_ERROR,
    ModelContractMismatch: HTTPStatus.INTERNAL_SERVER_ERROR,
    ModelDigestMismatch: HTTPStatus.INTERNAL_SERVER_ERROR,
    ReleaseUnsigned: HTTPStatus.INTERNAL_SERVER_ERROR,
}

PROBLEMS: Final = Problems(
    statuses=STATUS,
    retry_after_s={**web.RETRY_AFTER_S, ResultNotReady: 1, IdempotencyRequestInProgress: 1, UploadBusy: 2, QueueFull: 10},
    shape=Problem,
    examples={
        ValidationFailed: {
            "errors": [{"field": "query.sample_fps", "code": "less_than_equal", "message": "Input should be less than or equal to 60"}]
        },
        UploadTooLarge: {"limit_bytes": 2147483648},
        MismatchingUploadOffset: {"expected_offset": 8388608, "provided_offset": 0},
        UnsupportedMediaType: {"accepted": ACCEPTED},
        DependencyUnavailable: {"dependency": "redis"},
        StateConflict: {"state": JobState.SUCCEEDED},
        ResultNotReady: {"state": JobState.RUNNING},
    },
)


def problems(*kinds: type[MienError]) -> Responses:
    """For a route's `responses`: these errors, and the one that any request may meet."""
    return documented(PROBLEMS, *kinds)

"""What the training service answers errors with, beside what any service may."""

from http import HTTPStatus
from typing import Final

from services.training.schemas import Problem
from services.web import problems as web
from services.web.errors import DependencyUnavailable, ValidationFailed
from services.web.openapi import Responses, documented
from services.web.problems import Problems
from shared.errors import (
    InferenceError,
    InferenceInvalidOutput,
    InferenceRejected,
    KeyUnusable,
    MienError,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelVersionUnavailable,
    NothingToRollBack,
    PublicationConflict,
    PublicationNotFound,
    PublicationOver,
    ReleaseUnsigned,
    RunConflict,
    RunMismatch,
    RunNotFound,
)
from shared.jobs import JobState

PROBLEMS: Final = Problems(
    statuses={
        **web.STATUSES,
        RunNotFound: HTTPStatus.NOT_FOUND,
        RunConflict: HTTPStatus.CONFLICT,
        RunMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
        PublicationNotFound: HTTPStatus.NOT_FOUND,
        PublicationConflict: HTTPStatus.CONFLICT,
        PublicationOver: HTTPStatus.CONFLICT,
        NothingToRollBack: HTTPStatus.CONFLICT,
        ModelVersionUnavailable: HTTPStatus.NOT_FOUND,
        ModelContractMismatch: HTTPStatus.CONFLICT,
        ModelDigestMismatch: HTTPStatus.CONFLICT,
        ReleaseUnsigned: HTTPStatus.CONFLICT,
        KeyUnusable: HTTPStatus.CONFLICT,
        InferenceError: HTTPStatus.BAD_GATEWAY,
        InferenceRejected: HTTPStatus.BAD_GATEWAY,
        InferenceInvalidOutput: HTTPStatus.BAD_GATEWAY,
    },
    retry_after_s={**web.RETRY_AFTER_S, PublicationConflict: 5},
    shape=Problem,
    examples={
        ValidationFailed: {
            "errors": [{"field": "body.labelled.0.store", "code": "unknown_store", "message": "There is no crop store of this name"}]
        },
        DependencyUnavailable: {"dependency": "storage"},
        RunConflict: {"state": JobState.SUCCEEDED},
        PublicationOver: {"state": JobState.RUNNING},
    },
)


def problems(*kinds: type[MienError]) -> Responses:
    """For a route's `responses`: these errors, and the one that any request may meet."""
    return documented(PROBLEMS, *kinds)

"""The API described: what FastAPI cannot know by itself is added here, and what it only assumes is taken out."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.gateway.multipart import VIDEO
from services.gateway.problems import PROBLEM_JSON, RETRY_AFTER_S, STATUS
from services.gateway.schemas import EXAMPLE_ID, Problem
from services.gateway.uploads import MULTIPART
from shared.errors import InternalError, MienError
from shared.jobs import JobState, Options

SCHEMAS: Final = "#/components/schemas/{model}"

DESCRIPTION: Final = """
Post a video, and learn who was on screen, when, and which expression their face showed - with the evidence.

1. `POST /v1/analyses` with the video as the body. The answer is `202`, with the address of the analysis in `Location`.
2. `GET` that address until `state` is final, as often as `Retry-After` says.
3. `GET .../results`.

Times are integer milliseconds of media time, boxes are fractions of the upright frame, scores are 0 to 1 and sum to 1.
Every error is an RFC 9457 problem; test its `code`. What each code means is under [/problems](/problems).
Every response carries `X-Request-Id`; one that you send is kept when it is up to 64 letters, digits, `.`, `_` or `-`.
"""

REQUEST_ID_HEADER: Final = {
    "description": "Names this request in Mien's logs.",
    "schema": {"type": "string", "examples": ["6f1f7f0f9b5c4d0c8f9f0a1b2c3d4e5f"]},
}
RETRY_AFTER_HEADER: Final = {"description": "Seconds to wait before asking again.", "schema": {"type": "integer", "examples": [1]}}

EXTRA_EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "validation-failed": {
        "errors": [{"field": "query.sample_fps", "code": "less_than_equal", "message": "Input should be less than or equal to 60"}]
    },
    "upload-too-large": {"limit_bytes": 2147483648},
    "unsupported-media-type": {"accepted": ["video/*", "application/octet-stream", MULTIPART]},
    "dependency-unavailable": {"dependency": "redis"},
    "state-conflict": {"state": JobState.SUCCEEDED},
    "result-not-ready": {"state": JobState.RUNNING},
}

UPLOAD_BODY: Final = {
    "required": True,
    "description": "The video, as the whole body or as the part `video` of a form. It is streamed: no length needs to be known.",
    "content": {
        "video/*": {"schema": {"type": "string", "format": "binary", "description": "The video file."}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary", "description": "The video file."}},
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": [VIDEO],
                "additionalProperties": False,
                "properties": {
                    VIDEO: {"type": "string", "format": "binary", "description": "The video file. Its name is not kept."},
                    **Options.model_json_schema()["properties"],
                },
            }
        },
    },
}


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description of `app`, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=app.openapi_tags)
        add_problem_schemas(schema["components"]["schemas"])
        for path in schema["paths"].values():
            for operation in path.values():
                tidy(operation["responses"])
        app.openapi_schema = schema
    return app.openapi_schema


def tidy(responses: dict[str, Any]) -> None:
    """FastAPI lists a 422 of its own wherever there is a parameter; ours are listed where they can happen."""
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-Id"] = REQUEST_ID_HEADER


def add_problem_schemas(schemas: dict[str, Any]) -> None:
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template=SCHEMAS)
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem


def problems(*kinds: type[MienError]) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: these errors, and the one that any request may meet."""
    by_status: dict[HTTPStatus, list[type[MienError]]] = {}
    for kind in (*kinds, InternalError):
        by_status.setdefault(STATUS[kind], []).append(kind)
    return {status.value: one_status(status, group) for status, group in sorted(by_status.items())}


def one_status(status: HTTPStatus, kinds: Sequence[type[MienError]]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": " ".join(f"`{kind.code()}`: {kind.title()}" for kind in kinds),
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": SCHEMAS.format(model="Problem")},
                "examples": {kind.code(): {"summary": kind.title(), "value": example(kind, status)} for kind in kinds},
            }
        },
    }
    if any(kind in RETRY_AFTER_S for kind in kinds):
        response["headers"] = {"Retry-After": RETRY_AFTER_HEADER}
    return response


def example(kind: type[MienError], status: HTTPStatus) -> dict[str, Any]:
    problem = Problem(
        type=f"/problems/{kind.code()}",
        title=kind.title(),
        status=status,
        detail=kind.title(),
        instance=f"/v1/analyses/{EXAMPLE_ID}",
        code=kind.code(),
        retryable=kind.retryable,
        request_id="6f1f7f0f9b5c4d0c8f9f0a1b2c3d4e5f",
        **EXTRA_EXAMPLES.get(kind.code(), {}),
    )
    return problem.model_dump(mode="json", exclude_none=True)

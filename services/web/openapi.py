"""The API described: what FastAPI cannot know by itself is added here, and what it only assumes is taken out."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.web.errors import DependencyUnavailable, Forbidden, Unauthenticated, UseNotPermitted
from services.web.problems import PROBLEM_JSON, Problems, Status
from services.web.schemas import Problem
from shared.errors import InternalError, MienError, QuotaExceeded
from shared.keys import Role

SCHEMAS: Final = "#/components/schemas/{model}"
PROBLEM: Final = "Problem"
"""Name of the schema, whatever the service's own class is called."""
ANY_JSON: Final = "JsonValue"
"""Pydantic's name for the schema of a value of any type."""

REQUEST_ID_HEADER: Final = {
    "description": "Names this request in Mien's logs.",
    "schema": {"type": "string", "examples": ["6f1f7f0f9b5c4d0c8f9f0a1b2c3d4e5f"]},
}
RETRY_AFTER_HEADER: Final = {"description": "Seconds to wait before asking again.", "schema": {"type": "integer", "examples": [1]}}

RATE_LIMIT_HEADERS: Final = {
    "RateLimit-Policy": {
        "description": "How much a tenant may: quota `q` in a window of `w` seconds.",
        "schema": {"type": "string", "examples": ['"requests";q=6000;w=60']},
    },
    "RateLimit": {
        "description": "How much is left of it: `r`, and `t` seconds until there is the whole quota again.",
        "schema": {"type": "string", "examples": ['"requests";r=5998;t=41']},
    },
}
"""Of answers to a caller with a key."""

Responses = dict[int | str, dict[str, Any]]
"""What a route takes as `responses`."""


def documented(problems: Problems, *kinds: type[MienError]) -> Responses:
    """For a route's `responses`: these errors, and the one that any request may meet."""
    by_status: dict[Status, list[type[MienError]]] = {}
    for kind in (*kinds, InternalError):
        by_status.setdefault(problems.statuses[kind], []).append(kind)
    return {status.value: one_status(problems, group) for status, group in sorted(by_status.items())}


def one_status(problems: Problems, kinds: Sequence[type[MienError]]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": " ".join(f"`{kind.code()}`: {kind.title()}" for kind in kinds),
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": SCHEMAS.format(model=PROBLEM)},
                "examples": {kind.code(): {"summary": kind.title(), "value": example(problems, kind)} for kind in kinds},
            }
        },
    }
    if any(kind in problems.retry_after_s for kind in kinds):
        response["headers"] = {"Retry-After": RETRY_AFTER_HEADER}
    return response


def example(problems: Problems, kind: type[MienError]) -> dict[str, Any]:
    examples = {name: of.examples[0] for name, of in problems.shape.model_fields.items() if of.examples}
    error = kind(**problems.examples.get(kind, {}))
    problem = problems.problem(error, instance=examples["instance"], request_id=examples["request_id"])
    return problem.model_dump(mode="json", exclude_none=True)


def described(app: FastAPI, problems: Problems) -> dict[str, Any]:
    """The OpenAPI description of `app`, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags)
        add_schemas(schema["components"]["schemas"], problems.shape)
        for path in schema["paths"].values():
            for operation in path.values():
                guard(operation, problems)
                tidy(operation["responses"])
        app.openapi_schema = schema
    return app.openapi_schema


def guard(operation: dict[str, Any], problems: Problems) -> None:
    """What is said of a route that takes a key: which roles open it, and how it is refused."""
    if "security" not in operation:
        return
    ((scheme, named),) = operation["security"][0].items()
    roles = narrowest(named)
    operation["security"] = [{scheme: [role]} for role in roles]
    refusals = [Unauthenticated, Forbidden, QuotaExceeded, DependencyUnavailable, *([UseNotPermitted] if roles == [Role.CLIENT] else [])]
    for status, response in documented(problems, *refusals).items():
        add(operation["responses"].setdefault(str(status), response), response)
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for response in operation["responses"].values():
        response["headers"] = {**RATE_LIMIT_HEADERS, **response.get("headers", {})}


def narrowest(named: Sequence[str]) -> list[str]:
    """The roles of which a key needs one, where a router and its route each name theirs, such as `ops|publisher` and `publisher`."""
    return sorted(set.intersection(*(set(roles.split("|")) for roles in named)))


def add(response: dict[str, Any], more: dict[str, Any]) -> None:
    """Errors to those of the same status that a route lists itself."""
    examples = response["content"][PROBLEM_JSON]["examples"]
    missing = {code: it for code, it in more["content"][PROBLEM_JSON]["examples"].items() if code not in examples}
    if missing:
        response["description"] = " ".join([response["description"], *(f"`{code}`: {it['summary']}" for code, it in missing.items())])
        examples |= missing
    response["headers"] = {**more.get("headers", {}), **response.get("headers", {})}


def tidy(responses: dict[str, Any]) -> None:
    """FastAPI lists a 422 of its own wherever there is a parameter; ours are listed where they can happen."""
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-Id"] = REQUEST_ID_HEADER


def add_schemas(schemas: dict[str, Any], shape: type[Problem]) -> None:
    if ANY_JSON in schemas:  # which says nothing by itself
        schemas[ANY_JSON] = {"description": "Any JSON value."}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = shape.model_json_schema(ref_template=SCHEMAS)
    schemas.update(problem.pop("$defs"))
    schemas[PROBLEM] = problem

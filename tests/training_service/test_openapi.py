"""The description of the training API is complete."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from services.training.app import create_app
from services.training.schemas import Problem
from services.training.settings import ServiceSettings


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    described: dict[str, Any] = create_app(ServiceSettings(), stopping=threading.Event()).openapi()
    return described


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_is_there(schema: dict[str, Any]) -> None:
    assert {name for name, _ in operations(schema)} == {
        "POST /v1/runs",
        "GET /v1/runs",
        "GET /v1/runs/{run_id}",
        "DELETE /v1/runs/{run_id}",
        "GET /v1/runs/{run_id}/events",
        "GET /v1/runs/{run_id}/record",
        "GET /v1/runs/{run_id}/report",
        "POST /v1/runs/{run_id}:cancel",
        "POST /v1/runs/{run_id}:resume",
        "GET /v1/stores",
        "GET /v1/releases",
        "POST /v1/releases",
        "GET /v1/releases:compare",
        "GET /v1/releases/{version}",
        "POST /v1/releases/{version}:promote",
        "GET /v1/publications/{publication_id}",
        "POST /v1/publications/{publication_id}:cancel",
        "POST /v1/aliases/champion:rollback",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /problems",
        "GET /problems/{code}",
    }


def test_every_schema_and_every_property_is_described(schema: dict[str, Any]) -> None:
    silent = [
        f"{name}.{field}"
        for name, of in schema["components"]["schemas"].items()
        for field, it in {"": of, **of.get("properties", {})}.items()
        if not it.get("description")
    ]
    assert silent == []


def test_every_operation_parameter_and_header_is_described(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        assert operation["summary"], name
        assert operation["description"], name
        described = [
            *operation.get("parameters", []),
            *(header for of in operation["responses"].values() for header in of["headers"].values()),
        ]
        assert all(it.get("description") for it in described), name


def test_every_error_is_a_problem_with_an_example_that_is_one(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        errors = {status: response for status, response in operation["responses"].items() if int(status) >= 400}
        assert "500" in errors, name
        for status, response in errors.items():
            (content,) = response["content"].values()
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content["examples"].items():
                problem = Problem.model_validate(example["value"])
                assert (problem.code, problem.status) == (code, int(status)), name

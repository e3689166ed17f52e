"""The description of each service's API is complete: nothing is silent, and every error is a problem."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.gateway.schemas import Problem as GatewayProblem
from services.training.schemas import Problem as TrainingProblem
from services.web.schemas import Problem
from tests.web.descriptions import gateway, operations, training

Described = tuple[dict[str, Any], type[Problem]]


@pytest.fixture(scope="module", params=["gateway", "training"])
def described(request: pytest.FixtureRequest) -> Described:
    """A service's description, and the class of its problems."""
    return (gateway(), GatewayProblem) if request.param == "gateway" else (training(), TrainingProblem)


@pytest.fixture
def schema(described: Described) -> dict[str, Any]:
    return described[0]


@pytest.fixture
def problem_of(described: Described) -> type[Problem]:
    return described[1]


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


def test_every_error_is_a_problem_with_an_example_that_is_one(schema: dict[str, Any], problem_of: type[Problem]) -> None:
    for name, operation in operations(schema):
        errors = {status: response for status, response in operation["responses"].items() if int(status) >= 400}
        assert "500" in errors, name
        for status, response in errors.items():
            assert list(response["content"]) == ["application/problem+json"], (name, status)
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content["examples"].items():
                problem = problem_of.model_validate(example["value"])
                assert (problem.code, problem.status) == (code, int(status)), name


def test_references_lead_somewhere(schema: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    names = {reference.rpartition("/")[2] for reference in references(schema)}
    assert names <= schema["components"]["schemas"].keys()
    assert not {"HTTPValidationError", "ValidationError"} & schema["components"]["schemas"].keys()

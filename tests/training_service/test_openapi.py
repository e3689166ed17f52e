"""The training API has the routes that it says it has."""

from typing import Any

import pytest

from tests.web import descriptions


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return descriptions.training()


def test_every_route_is_there(schema: dict[str, Any]) -> None:
    assert {name for name, _ in descriptions.operations(schema)} == {
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

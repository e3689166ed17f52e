"""`/healthz`, `/readyz` and `/metrics`: the same questions to every service, and answers of its own to the last two.

With keys, anybody may ask whether the process is alive, and only a key with the role `ops` gets to know how it is doing: that names
releases and dependencies, and counts everybody's work.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from services.web.errors import DependencyUnavailable
from services.web.guard import ops
from services.web.openapi import documented
from services.web.problems import Problems
from services.web.schemas import Health, Readiness
from shared.errors import MienError

TEXT: Final[dict[str, Any]] = {"description": "The text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}


def router(
    problems: Problems,
    *,
    readyz: Callable[..., Awaitable[Readiness]],
    metrics: Callable[..., Awaitable[Response]],
    metrics_raises: tuple[type[MienError], ...] = (),
) -> APIRouter:
    """`readyz` and `metrics` are endpoints: FastAPI hands them what they ask for, and their docstrings are shown."""
    router = APIRouter(tags=["operations"])
    router.add_api_route("/healthz", healthz, summary="Is the process alive", responses=documented(problems))
    router.add_api_route(
        "/readyz",
        readyz,
        summary="Is everything there",
        dependencies=[Depends(ops)],
        responses=documented(problems, DependencyUnavailable),
    )
    router.add_api_route(
        "/metrics",
        metrics,
        summary="Prometheus metrics",
        dependencies=[Depends(ops)],
        response_class=Response,
        responses={HTTPStatus.OK.value: TEXT, **documented(problems, *metrics_raises)},
    )
    return router


async def healthz() -> Health:
    """Asks nothing of any other part."""
    return Health()


def exposition(text: bytes) -> Response:
    """What `metrics` answers."""
    return Response(text, media_type=CONTENT_TYPE_LATEST)

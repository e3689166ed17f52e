"""A service's routes, with everything around them that all services share."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import Lifespan

from services.web import problems as handlers
from services.web.access import Access
from services.web.bodies import BodyLimit, WholeBodies
from services.web.guard import Guard
from services.web.lingering import LingeringClose
from services.web.metrics import RequestMetrics
from services.web.openapi import described
from services.web.problems import Problems
from services.web.strangers import Strangers
from shared.tracing import Tracing, Untraced


def assemble(
    *,
    title: str,
    description: str,
    tags: Sequence[dict[str, Any]],
    routers: Sequence[APIRouter],
    problems: Problems,
    metrics: RequestMetrics,
    lifespan: Lifespan[FastAPI],
    guard: Guard,
    tracing: Tracing | None = None,
    bodies: WholeBodies | None = None,
) -> FastAPI:
    """The service as an ASGI app. `bodies` is for those that are read whole: one that is streamed has limits of its own."""
    # FastAPI's own /docs is a page of links to a CDN, and stays blank where nothing but this server can be reached.
    app = FastAPIOffline(
        title=title,
        version="1",
        description=description,
        lifespan=lifespan,
        openapi_tags=list(tags),
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.guard = guard
    for router in routers:
        app.include_router(router)
    handlers.install(app, problems)
    app.add_middleware(Strangers, guard=guard)  # first, so innermost: nothing is asked of a body before it
    if bodies is not None:
        app.add_middleware(BodyLimit, bodies=bodies)
    app.add_middleware(Access, metrics=metrics, problems=problems, tracing=tracing or Untraced())
    app.add_middleware(LingeringClose)  # last, so outermost: it must see every answer
    app.openapi = partial(described, app, problems)  # type: ignore[method-assign]
    return app

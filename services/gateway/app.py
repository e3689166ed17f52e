"""The gateway, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
from anyio import to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from services.gateway import analyses, catalogue, operations, page, problems
from services.gateway.access import Access
from services.gateway.lingering import LingeringClose
from services.gateway.metrics import Metrics
from services.gateway.openapi import described
from services.gateway.operations import CHECK_TIMEOUT_S
from services.gateway.parts import Parts
from services.gateway.results import Results
from services.gateway.uploads import UploadLimits
from shared.queue import GatewayQueue
from shared.videos import Videos

TAGS = [
    {"name": "analyses", "description": "A video in, expressions out."},
    {"name": "operations", "description": "For those who run Mien."},
    {"name": "problems", "description": "What the problem codes mean."},
]


def create_app(*, queue: GatewayQueue, videos: Videos, triton_http: str, limits: UploadLimits) -> FastAPI:
    """The gateway as an ASGI app. It owns `queue` from here on: it is closed when the app stops."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(videos.prepare)
        # Triton is a neighbour: no proxy that the environment may name leads to it.
        async with httpx.AsyncClient(base_url=triton_http, timeout=CHECK_TIMEOUT_S, trust_env=False) as triton:
            app.state.parts = Parts(queue=queue, videos=videos, results=Results(videos), triton=triton, limits=limits, metrics=metrics)
            yield
        await queue.close()

    # FastAPI's own /docs is a page of links to a CDN, and stays blank where nothing but this server can be reached.
    app = FastAPIOffline(title="Mien", version="1", lifespan=lifespan, openapi_tags=TAGS, redoc_url=None, redirect_slashes=False)
    for router in (analyses.router, operations.router, catalogue.router, page.router):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(Access, metrics=metrics)
    app.add_middleware(LingeringClose)  # last, so outermost: it must see every answer
    app.openapi = partial(described, app)  # type: ignore[method-assign]
    return app

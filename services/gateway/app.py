"""The gateway, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread
from fastapi import FastAPI

from services.gateway import analyses, findings, operations, page
from services.gateway import models as model_routes
from services.gateway.metrics import Metrics
from services.gateway.openapi import DESCRIPTION, TAGS
from services.gateway.parts import Parts
from services.gateway.problems import PROBLEMS
from services.gateway.published import Models
from services.gateway.results import Results
from services.gateway.triton import Triton
from services.gateway.uploads import UploadLimits
from services.gateway.windows import Windows
from services.web.app import assemble
from services.web.catalogue import Catalogue, with_kinds
from services.web.guard import Guard
from shared.errors import (
    AttemptsExhausted,
    DecoderUnavailable,
    InferenceError,
    InternalError,
    MediaError,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelVersionUnavailable,
    ReleaseError,
    ReleaseUnsigned,
    StorageError,
)
from shared.queue import GatewayQueue
from shared.videos import Videos

FAILURES: Final = (
    *with_kinds(MediaError, InferenceError, StorageError),
    *(ReleaseError, ModelVersionUnavailable, ModelDigestMismatch, ModelContractMismatch, ReleaseUnsigned),
    *(AttemptsExhausted, DecoderUnavailable, InternalError),
)
"""What an analysis may fail with. Other kinds of ReleaseError happen to candidates."""


def create_app(*, queue: GatewayQueue, videos: Videos, models: Models, triton_http: str, limits: UploadLimits, guard: Guard) -> FastAPI:
    """The gateway as an ASGI app. It owns `queue` and `guard` from here on: they are closed when the app stops."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(videos.prepare)
        async with Triton.at(triton_http) as triton:
            results = Results(videos)
            app.state.parts = Parts(
                queue=queue,
                videos=videos,
                results=results,
                windows=Windows(videos, results),
                models=models,
                triton=triton,
                limits=limits,
                metrics=metrics,
            )
            yield
        await queue.close()

    catalogue = Catalogue(PROBLEMS, failures=FAILURES, work="an analysis")
    return assemble(
        title="Mien",
        description=DESCRIPTION,
        await guard.close()
        tags=TAGS,
        routers=(analyses.router, findings.router, model_routes.router, operations.ROUTER, catalogue.router(), page.router),
        problems=PROBLEMS,
        metrics=metrics.requests,
        lifespan=lifespan,
        guard=guard,
    )

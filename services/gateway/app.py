"""The gateway, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread
from fastapi import FastAPI

from services.gateway import analyses, events, findings, operations, page
from services.gateway import models as model_routes
from services.gateway.metrics import Metrics
from services.gateway.openapi import DESCRIPTION, TAGS
from services.gateway.parts import Parts
from services.gateway.problems import PROBLEMS
from services.gateway.published import Models
from services.gateway.results import Results
from services.gateway.retention import Retention
from services.gateway.triton import Triton
from services.gateway.tus import routes as tus_routes
from services.gateway.tus.finish import Finisher
from services.gateway.tus.headers import Tus
from services.gateway.tus.store import Uploads
from services.gateway.uploads import UploadLimits
from services.gateway.watching import Watching
from services.gateway.webhooks import routes as webhook_routes
from services.gateway.webhooks.courier import Courier, Terms
from services.gateway.webhooks.egress import Egress
from services.gateway.webhooks.records import Webhooks
from services.gateway.webhooks.sending import Sender
from services.gateway.windows import Windows
from services.web.app import assemble
from services.web.background import background
from services.web.bodies import WholeBodies
from services.web.catalogue import Catalogue, with_kinds
from services.web.guard import Guard
from shared.deliveries import Deliveries
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
from shared.tracing import Tracing
from shared.videos import Videos

FAILURES: Final = (
    *with_kinds(MediaError, InferenceError, StorageError),
    *(ReleaseError, ModelVersionUnavailable, ModelDigestMismatch, ModelContractMismatch, ReleaseUnsigned),
    *(AttemptsExhausted, DecoderUnavailable, InternalError),
)
"""What an analysis may fail with. Other kinds of ReleaseError happen to candidates."""


def create_app(
    *,
    queue: GatewayQueue,
    videos: Videos,
    models: Models,
    triton_http: str,
    limits: UploadLimits,
    guard: Guard,
    egress: Egress | None = None,
    terms: Terms = Terms(),  # noqa: B008 -- frozen
    tracing: Tracing | None = None,
) -> FastAPI:
    """The gateway as an ASGI app. It owns `queue` and `guard` from here on: they are closed when the app stops.

    egress, terms: of webhooks; the public internet by default, as patiently as the specification wants.
    """
    metrics = Metrics()
    retention = Retention(queue.url, videos, metrics)
    watching = Watching(queue, videos)
    webhooks = Webhooks(videos.root / "webhooks")
    deliveries = Deliveries(queue.url)
    egress = egress or Egress()
    uploads = Uploads(videos.root)
    finisher = Finisher(uploads, videos=videos, queue=queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(videos.prepare)
        await to_thread.run_sync(uploads.prepare)
        await to_thread.run_sync(webhooks.prepare)
        sender = Sender(egress, timeout_s=terms.timeout_s)
        courier = Courier(deliveries, webhooks, sender, terms, tried=metrics.tried)
        async with (
            Triton.at(triton_http) as triton,
            background(watching.run, finisher.tend, courier.announce, courier.deliver, retention.run),
        ):
            results = Results(videos)
            app.state.parts = Parts(
                queue=queue,
                videos=videos,
                uploads=uploads,
                finisher=finisher,
                results=results,
                windows=Windows(videos, results),
                models=models,
                triton=triton,
                limits=limits,
                metrics=metrics,
                watching=watching,
                webhooks=webhooks,
                deliveries=deliveries,
                egress=egress,
            )
            app.state.leave = watching.end
            yield
        await sender.close()
        await deliveries.close()
        await queue.close()
        await guard.close()

    catalogue = Catalogue(PROBLEMS, failures=FAILURES, work="an analysis")
    app = assemble(
        title="Mien",
        description=DESCRIPTION,
        tags=TAGS,
        routers=(
            analyses.router,
            tus_routes.ROUTER,
            findings.router,
            events.router,
            webhook_routes.router,
            model_routes.router,
            operations.ROUTER,
            catalogue.router(),
            page.router,
        ),
        problems=PROBLEMS,
        metrics=metrics.requests,
        lifespan=lifespan,
        guard=guard,
        tracing=tracing,
        bodies=WholeBodies(max_bytes=webhook_routes.MOST_BYTES, under=webhook_routes.router.prefix),
    )
    events.install(app)
    app.add_middleware(Tus)
    return app

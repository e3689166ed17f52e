"""What the routes work with, handed to the app when it is made."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.metrics import Metrics
from services.gateway.published import Models
from services.gateway.results import Results
from services.gateway.triton import Triton
from services.gateway.tus.finish import Finisher
from services.gateway.tus.store import Uploads
from services.gateway.uploads import UploadLimits
from services.gateway.watching import Watching
from services.gateway.webhooks.egress import Egress
from services.gateway.webhooks.records import Webhooks
from services.gateway.windows import Windows
from shared.deliveries import Deliveries
from shared.queue import GatewayQueue
from shared.videos import Videos


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The gateway's connections to everything else."""

    queue: GatewayQueue
    videos: Videos
    uploads: Uploads
    finisher: Finisher
    results: Results
    windows: Windows
    models: Models
    triton: Triton
    limits: UploadLimits
    metrics: Metrics
    watching: Watching
    webhooks: Webhooks
    deliveries: Deliveries
    egress: Egress


async def of_request(request: Request) -> Parts:  # async, since FastAPI sends plain functions to a thread
    parts: Parts = request.app.state.parts
    return parts


Given = Annotated[Parts, Depends(of_request)]

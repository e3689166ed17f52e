"""For those who run Mien: is it alive, is it ready, what does it do."""

from http import HTTPStatus

from anyio import to_thread
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from services.gateway.parts import Given, Parts
from services.gateway.problems import problems
from services.web.errors import DependencyUnavailable
from services.web.health import readiness
from services.web.schemas import Health, Readiness
from shared.errors import QueueUnavailable
from shared.queue import CHAMPION, Depth
from shared.releases import GRAPHS, model_name

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive", responses=problems())
async def healthz() -> Health:
    """Asks nothing of any other part."""
    return Health()


@router.get("/readyz", summary="Is everything there", responses=problems(DependencyUnavailable))
async def readyz(parts: Given) -> Readiness:
    """Redis answers, the data folder takes bytes, and the champion release is loaded. A video can be posted without the last of them."""
    return await readiness({"redis": check_redis(parts), "storage": check_storage(parts), "model": check_model(parts)})


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        HTTPStatus.OK.value: {"description": "The text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(),
    },
)
async def metrics(parts: Given) -> Response:
    """Requests by route template, method and status, their duration, bytes uploaded, and jobs in the queue."""
    return Response(parts.metrics.expose(await depth(parts)), media_type=CONTENT_TYPE_LATEST)


async def depth(parts: Parts) -> Depth | None:
    """How many jobs there are; None when the queue does not answer, which is no reason to hide the other metrics."""
    try:
        return await parts.queue.depth()
    except QueueUnavailable:
        return None


async def check_redis(parts: Parts) -> str:
    await parts.queue.ping()
    return ""


async def check_storage(parts: Parts) -> str:
    await to_thread.run_sync(parts.videos.check, abandon_on_cancel=True)  # a hung disk would hold the answer up, too
    return ""


async def check_model(parts: Parts) -> str:
    version = await parts.queue.alias(CHAMPION)
    if version is None:
        raise DependencyUnavailable("no release is champion")
    if unready := await parts.triton.unready(version):
        raise DependencyUnavailable(", ".join(f"{name} is not ready" for name in unready))
    return f"{' and '.join(model_name(version, graph) for graph in GRAPHS)} are ready"

"""For those who run Mien: is it alive, is it ready, what does it do."""

from typing import Final

from anyio import to_thread
from fastapi import Response

from services.gateway.parts import Given, Parts
from services.gateway.problems import PROBLEMS
from services.web import operations
from services.web.errors import DependencyUnavailable
from services.web.health import readiness
from services.web.schemas import Readiness
from shared.deliveries import Backlog
from shared.errors import QueueUnavailable
from shared.queue import CHAMPION, Depth
from shared.releases import GRAPHS, model_name


async def readyz(parts: Given) -> Readiness:
    """Redis answers and loses nothing, the data folder takes bytes, and the champion release is loaded.

    A video can be posted without the last of them.
    """
    return await readiness({"redis": check_redis(parts), "storage": check_storage(parts), "model": check_model(parts)})


async def metrics(parts: Given) -> Response:
    """Requests by route template, method and status, their duration, problems by code, uploads, queue, webhooks, and what upkeep did."""
    return operations.exposition(parts.metrics.expose(await depth(parts), await backlog(parts)))


ROUTER: Final = operations.router(PROBLEMS, readyz=readyz, metrics=metrics)


async def depth(parts: Parts) -> Depth | None:
    """How many jobs there are; None when the queue does not answer, which is no reason to hide the other metrics."""
    try:
        return await parts.queue.depth()
    except QueueUnavailable:
        return None


async def backlog(parts: Parts) -> Backlog | None:
    """What is left to tell webhooks; None when nobody answers."""
    try:
        return await parts.deliveries.backlog()
    except QueueUnavailable:
        return None


async def check_redis(parts: Parts) -> str:
    if unsafe := await parts.queue.unsafe_settings():
        raise DependencyUnavailable("; ".join(unsafe))
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

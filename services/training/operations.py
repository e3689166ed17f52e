"""For those who run the training service: is it alive, is it ready, what does it do."""

from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import httpx
from anyio import to_thread
from fastapi import Response

from services.training.parts import Given, Parts
from services.training.problems import PROBLEMS
from services.web import operations
from services.web.errors import DependencyUnavailable
from services.web.health import readiness
from services.web.schemas import Readiness
from shared.jobs import JobState
from training.runs import Run, Runs


async def readyz(parts: Given) -> Readiness:
    """The folder of runs takes bytes and there are crops, which runs need; Redis and Triton answer, which publishing needs."""
    return await readiness(
        {"storage": check_storage(parts), "crops": check_crops(parts), "redis": check_redis(parts), "triton": check_triton(parts)}
    )


async def metrics(parts: Given) -> Response:
    """Requests by route template, method and status, their duration, and runs, their epochs and publications by state."""

    def exposed() -> bytes:
        runs = parts.runs.all()
        return parts.metrics.expose(epochs=epochs(parts.runs, runs), runs=runs, publications=parts.publications.all())

    return operations.exposition(await to_thread.run_sync(exposed))


def epochs(ledger: Runs, runs: Sequence[Run]) -> Counter[JobState]:
    """Finished ones, by the state of their run. A run may be deleted meanwhile: then it has none."""
    done: Counter[JobState] = Counter()
    for run in runs:
        done[run.state] += len(ledger.epochs(run.id))
    return done


ROUTER: Final = operations.router(PROBLEMS, readyz=readyz, metrics=metrics, metrics_raises=(DependencyUnavailable,))


async def check_storage(parts: Parts) -> str:
    await to_thread.run_sync(parts.runs.check, abandon_on_cancel=True)  # a hung disk would hold the answer up, too
    return ""


async def check_crops(parts: Parts) -> str:
    if not await to_thread.run_sync(parts.stores.folder.is_dir, abandon_on_cancel=True):
        raise DependencyUnavailable("there is no folder of crop stores")
    return ""


async def check_redis(parts: Parts) -> str:
    await parts.aliases.ping()
    return ""


async def check_triton(parts: Parts) -> str:
    try:
        response = await parts.triton.get("/v2/health/ready")
    except httpx.HTTPError:
        raise DependencyUnavailable("the model server does not answer") from None
    if response.status_code != HTTPStatus.OK:
        raise DependencyUnavailable("the model server is not ready")
    return ""

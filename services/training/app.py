"""The training service, put together."""

import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
from anyio import to_thread
from fastapi import FastAPI

from services.training import operations, releases, runs, stores
from services.training.command_line import CommandLine
from services.training.crew import Crew, Foreman, publishing_command, training_command
from services.training.metrics import Metrics
from services.training.parts import Parts
from services.training.problems import PROBLEMS
from services.training.settings import ServiceSettings
from services.web.app import assemble
from services.web.bodies import WholeBodies
from services.web.catalogue import Catalogue, with_kinds
from services.web.guard import Guard
from services.web.health import CHECK_TIMEOUT_S
from shared.errors import AttemptsExhausted, InferenceError, InternalError, QueueUnavailable, ReleaseError, StorageError, TrainingError
from shared.queue import GatewayQueue
from training.publications import Publications
from training.runs import Runs
from training.stores import Stores

TITLE: Final = "Mien: training"
TAGS: Final = (
    {"name": "runs", "description": "Noisy-student rounds, from a plan to a candidate."},
    {"name": "stores", "description": "What there is to learn from."},
    {"name": "releases", "description": "From a candidate to the champion, and back."},
    {"name": "operations", "description": "For those who run the training service."},
    {"name": "problems", "description": "What the problem codes mean."},
)
DESCRIPTION: Final = """
Train a network in noisy-student rounds, watch it, and publish what it came to.

1. `GET /v1/stores` says what there is to learn from.
2. `POST /v1/runs` with a plan. The answer is `202`, with the address of the run in `Location`: it is promised, and outlives this server.
3. `GET .../events` tells every finished epoch as it happens, `GET .../report` what the rounds were measured at.
4. `POST /v1/releases` with the run's id measures its candidate against the champion, and publishes it if it is good enough.
5. `POST /v1/aliases/champion:rollback` takes it back within seconds.

Every error is an RFC 9457 problem; test its `code`. What each code means is under [/problems](/problems). A server that
others can reach asks for an API key, sent as `Authorization: Bearer mien_...`: `publisher` keys do all of this, `ops` keys look on.
"""
FAILURES: Final = tuple(
    with_kinds(TrainingError, ReleaseError, InferenceError, StorageError, QueueUnavailable, AttemptsExhausted, InternalError)
)
"""What a run or a publication may fail with."""


def create_app(settings: ServiceSettings, *, stopping: threading.Event, guard: Guard) -> FastAPI:
    """The training service as an ASGI app. `stopping` is to be set when it is told to stop, before it waits for open answers."""
    metrics = Metrics()
    ledger = Runs(settings.runs, models=settings.models)
    publications = Publications(settings.runs)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(ledger.prepare)
        foreman = foreman_of(settings, ledger, publications)
        queue = GatewayQueue(settings.redis())
        # Triton is a neighbour: no proxy that the environment may name leads to it.
        async with httpx.AsyncClient(base_url=settings.triton_http, timeout=CHECK_TIMEOUT_S, trust_env=False) as triton:
            app.state.parts = Parts(
                runs=ledger,
                publications=publications,
                stores=Stores(settings.crops),
                models=settings.models,
                commands=CommandLine(python=sys.executable, environment=settings.environment()),
                aliases=queue,
                triton=triton,
                look=foreman.look,
                stopping=stopping,
                metrics=metrics,
            )
            foreman.start()
            try:
                yield
            finally:
                await to_thread.run_sync(foreman.stop)
        await queue.close()

    catalogue = Catalogue(PROBLEMS, failures=FAILURES, work="a run or a publication")
    return assemble(
        title=TITLE,
        description=DESCRIPTION,
        tags=TAGS,
        routers=(runs.router, stores.router, releases.router, operations.ROUTER, catalogue.router()),
        problems=PROBLEMS,
        metrics=metrics.requests,
        lifespan=lifespan,
        guard=guard,
        bodies=WholeBodies(max_bytes=1024 * 1024),
    )


def foreman_of(settings: ServiceSettings, runs: Runs, publications: Publications) -> Foreman:
    """Runs one after the other; publications beside them, one at a time since each changes the model repository."""
    environment, grace_s = settings.environment(), settings.training_grace_s
    train = training_command(sys.executable, processes=settings.training_processes)
    publish = publishing_command(sys.executable)
    return Foreman(
        [
            Crew(runs, command=train, environment=environment, at_once=settings.training_runs_at_once, grace_s=grace_s),
            Crew(publications, command=publish, environment=environment, at_once=1, grace_s=grace_s),
        ]
    )

"""Both sides of the queue, on a real Redis."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from shared.jobs import PUBLIC, Job, Options
from shared.queue import GatewayQueue, Lease, Limits, WorkerQueue
from shared.queue_upkeep import UpkeepQueue

LEASE_S = 0.5

numbers = itertools.count(1)


def new_job(*, created_ms: int | None = None, sample_fps: float = 8.0, tenant: str = PUBLIC) -> Job:
    number = next(numbers)
    created = created_ms if created_ms is not None else time.time_ns() // 1_000_000
    return Job(
        id=f"an_{number:032x}",
        tenant=tenant,
        size_bytes=1000 + number,
        sha256=f"{number:064d}",
        options=Options(sample_fps=sample_fps),
        created_ms=created,
    )


class Gateway:
    """The gateway's side, one event loop per call, so that a test reads as plain steps."""

    def __init__(self, url: str, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.url = url
        self.limits = limits

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: object, **kwargs: object) -> object:
            queue = GatewayQueue(self.url, limits=self.limits)
            try:
                return await getattr(queue, name)(*args, **kwargs)
            finally:
                await queue.close()

        return lambda *args, **kwargs: asyncio.run(call(*args, **kwargs))


@pytest.fixture
def gateway(redis_url: str) -> Gateway:
    return Gateway(redis_url)


@pytest.fixture
def worker_url(redis_url: str) -> str:
    """Redis as workers reach it."""
    return redis_url


@pytest.fixture
def new_worker(worker_url: str) -> Iterator[Callable[..., WorkerQueue]]:
    made: list[WorkerQueue] = []

    def make(**settings: Any) -> WorkerQueue:
        made.append(WorkerQueue(worker_url, **{"lease_s": LEASE_S, "backoff_s": 0.05, **settings}))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def worker(new_worker: Callable[..., WorkerQueue]) -> WorkerQueue:
    return new_worker()


@pytest.fixture
def other(new_worker: Callable[..., WorkerQueue]) -> WorkerQueue:
    return new_worker()


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def claimed(queue: WorkerQueue) -> Lease:
    lease = queue.claim()
    assert lease is not None
    return lease


@pytest.fixture
def hasty_redis_url(redis_url: str, raw: redis.Redis) -> Iterator[str]:
    """A Redis that does not wait for its disk, for tests of many calls that are not about losing any."""
    raw.config_set("appendfsync", "no")
    yield redis_url
    raw.config_set("appendfsync", "always")


@pytest.fixture
def upkeep(redis_url: str) -> Iterator[UpkeepQueue]:
    queue = UpkeepQueue(redis_url)
    yield queue
    queue.close()

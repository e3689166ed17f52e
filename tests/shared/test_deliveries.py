"""Deliveries on a real Redis: an end is announced whoever dies, a lease passes on, and what is kept has a bound."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from shared.deliveries import Attempt, Claimed, Deliveries, DeliveryState, NewDelivery, Outcome
from shared.errors import DeliveryNotFound, MediaNoVideoStream
from shared.jobs import PUBLIC, Failure, Job, JobState, Progress, Timings
from shared.queue import WorkerQueue
from shared.queue_upkeep import UpkeepQueue
from shared.videos import End
from tests.shared.conftest import Gateway, claimed, new_job

HOOK = "wh_1"


class Told:
    """One event loop per call, so that a test reads as plain steps."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: object, **kwargs: object) -> object:
            deliveries = Deliveries(self._url)
            try:
                return await getattr(deliveries, name)(*args, **kwargs)
            finally:
                await deliveries.close()

        return lambda *args, **kwargs: asyncio.run(call(*args, **kwargs))


@pytest.fixture
def told(redis_url: str) -> Told:
    return Told(redis_url)


@pytest.fixture
def job(gateway: Gateway, worker: WorkerQueue) -> Job:
    """One that has succeeded."""
    gateway.submit(new_job())
    lease = claimed(worker)
    worker.succeed(lease, Timings())
    return lease.job


def message(name: str, webhook: str = HOOK) -> NewDelivery:
    return NewDelivery(id=name, webhook=webhook, type="analysis.succeeded", payload='{"é":1}')


def attempt(outcome: Outcome, status: int | None = None) -> Attempt:
    return Attempt(at_ms=1_614_265_330_123, took_ms=7, outcome=outcome, status=status)


def claim(told: Told, *, lease_s: float = 60, busy: tuple[str, ...] = ()) -> Claimed:
    found = told.claim("token", lease_s=lease_s, busy=busy)
    assert isinstance(found, Claimed)
    return found


# --- ends ------------------------------------------------------------------------------------------------------------


def test_each_end_is_to_be_told_once_it_has_come(gateway: Gateway, worker: WorkerQueue, told: Told) -> None:
    ids = [gateway.submit(new_job()) for _ in range(3)]
    assert told.ended(lease_s=60) is None
    worker.succeed(claimed(worker), Timings())
    worker.fail(claimed(worker), Failure.of(MediaNoVideoStream()))
    gateway.cancel(ids[2])
    found = [told.ended(lease_s=60) for _ in range(3)]
    assert [(job.id, job.state) for job in found] == list(zip(ids, (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED), strict=True))
    assert told.ended(lease_s=60) is None, "somebody is at each of them"


def test_who_dies_before_it_is_announced_leaves_it_to_others(told: Told, job: Job) -> None:
    assert told.ended(lease_s=0).id == job.id
    assert told.ended(lease_s=0).id == job.id
    told.announce(job.id, [message("msg_1")])
    assert told.ended(lease_s=0) is None
    assert claim(told).id == "msg_1"


def test_announced_twice_is_announced_once(told: Told, job: Job) -> None:
    told.announce(job.id, [message("msg_1"), message("msg_2", "wh_2")])
    first = claim(told)
    told.settle(first, attempt(Outcome.DELIVERED, 200), next_in_s=None)
    told.announce(job.id, [message("msg_1"), message("msg_2", "wh_2")])
    assert claim(told).id == "msg_2"
    assert told.claim("token", lease_s=60) is None


def test_an_end_that_comes_back_from_disk_is_told_again(told: Told, raw: redis.Redis, redis_url: str, job: Job) -> None:
    ended = told.ended(lease_s=60)
    raw.flushall()
    upkeep = UpkeepQueue(redis_url)
    upkeep.restore(End(job=ended, attempt="a"))
    upkeep.close()
    assert told.ended(lease_s=60).id == job.id


def test_a_deleted_analysis_is_not_told_any_more(gateway: Gateway, told: Told, raw: redis.Redis, job: Job) -> None:
    gateway.delete(job.id)
    assert told.ended(lease_s=60) is None
    told.announce(job.id, [message("msg_1")])
    assert told.claim("token", lease_s=60) is None


def test_a_deleted_analysis_leaves_nothing_in_deliveries(gateway: Gateway, told: Told, raw: redis.Redis, job: Job) -> None:
    told.announce(job.id, [message("msg_1")])
    gateway.delete(job.id)
    assert told.list(HOOK, limit=10) == ()
    assert told.claim("token", lease_s=60) is None
    assert not [key for key in raw.keys("*") if "msg_1" in key or key.startswith("mien:announced:")]
    assert raw.zcard("mien:deliveries") == 0


# --- deliveries ------------------------------------------------------------------------------------------------------


def test_a_delivery_is_claimed_by_one_and_again_when_its_lease_is_over(told: Told, job: Job) -> None:
    told.announce(job.id, [message("msg_1")])
    first = claim(told, lease_s=0)
    second = told.claim("other", lease_s=60)
    assert (first.id, first.tries, second.id, second.tries, second.payload) == ("msg_1", 1, "msg_1", 2, '{"é":1}')
    assert told.claim("third", lease_s=60) is None
    assert not told.settle(first, attempt(Outcome.TIMEOUT), next_in_s=0), "it is somebody else's by now"
    assert told.settle(second, attempt(Outcome.DELIVERED, 200), next_in_s=None)


def test_what_failed_is_due_again_when_it_was_said(told: Told, job: Job) -> None:
    told.announce(job.id, [message("msg_1")])
    told.settle(claim(told), attempt(Outcome.REFUSED, 503), next_in_s=60)
    assert told.claim("token", lease_s=60) is None
    delivery = told.get(HOOK, "msg_1")
    assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, (attempt(Outcome.REFUSED, 503),))
    assert 59_000 < delivery.next_ms - delivery.created_ms < 70_000
    told.again(HOOK, "msg_1")
    assert claim(told).tries == 1, "the schedule begins anew"


def test_a_busy_webhook_is_passed_over(told: Told, job: Job) -> None:
    told.announce(job.id, [message("msg_1"), message("msg_2", "wh_2")])
    assert claim(told, busy=(HOOK,)).id == "msg_2"
    assert told.claim("token", lease_s=60, busy=(HOOK,)) is None


def test_what_came_of_it_is_kept_within_bounds(told: Told, raw: redis.Redis) -> None:
    for number in range(210):
        told.test(message(f"msg_{number:03}"))
        if number % 2:
            told.settle(claim(told), attempt(Outcome.DELIVERED, 200), next_in_s=None)
    kept = told.list(HOOK, limit=1000)
    assert len(kept) == 200
    assert sum(one.state is DeliveryState.PENDING for one in kept) == 105, "nobody's is dropped before it was told"
    for _ in range(25):
        told.settle(claim(told, lease_s=0), attempt(Outcome.TIMEOUT), next_in_s=0)
    assert max(len(one.attempts) for one in told.list(HOOK, limit=1000)) <= 20


def test_a_forgotten_webhook_leaves_nothing(told: Told, raw: redis.Redis) -> None:
    told.test(message("msg_1"))
    told.test(message("msg_2", "wh_2"))
    told.forget(HOOK)
    assert told.list(HOOK, limit=10) == ()
    assert claim(told).id == "msg_2"
    with pytest.raises(DeliveryNotFound):
        told.get(HOOK, "msg_1")


def test_another_webhooks_delivery_is_none_of_its(told: Told) -> None:
    told.test(message("msg_1"))
    for ask in (told.get, told.again):
        with pytest.raises(DeliveryNotFound):
            ask("wh_2", "msg_1")


def test_the_backlog_says_what_is_left_to_tell(told: Told, job: Job) -> None:
    assert told.backlog().announcements == 1
    told.announce(job.id, [message("msg_1"), message("msg_2")])
    backlog = told.backlog()
    assert (backlog.announcements, backlog.deliveries) == (0, 2)
    assert job.tenant == PUBLIC


# --- revisions -------------------------------------------------------------------------------------------------------


def test_every_change_that_can_be_seen_raises_the_revision(gateway: Gateway, worker: WorkerQueue) -> None:
    job_id, other = gateway.submit(new_job()), "an_" + 32 * "f"
    seen = [gateway.look(job_id).revision]

    def rises() -> None:
        seen.append(gateway.look(job_id).revision)
        assert seen[-1] > seen[-2]
        assert gateway.revisions([job_id, other]) == {job_id: seen[-1], other: None}

    lease = claimed(worker)
    rises()
    lease = worker.pin(lease, 3)
    rises()
    worker.report(lease, Progress(frames_done=1))
    rises()
    worker.beat(lease)
    assert gateway.look(job_id).revision == seen[-1], "nobody can see a beat"
    gateway.cancel(job_id)
    rises()
    worker.canceled(lease)
    rises()

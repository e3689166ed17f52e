"""One tenant's jobs and another's: who sees them, whose turn it is, and how many there may be."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from shared.errors import InternalError, JobNotFound, QueueFull, QuotaExceeded
from shared.jobs import FINAL_STATES, Failure, Job, Timings
from shared.queue import GatewayQueue, Limits, WorkerQueue
from tests.shared.conftest import Gateway, claimed, new_job

L3 = Limits(tenant_jobs=1000)


def order_of_claims(worker: WorkerQueue, count: int) -> list[Job]:
    """Who gets a worker, one job after the other."""
    served = []
    for _ in range(count):
        lease = claimed(worker)
        served.append(lease.job)
        worker.succeed(lease, Timings())
    return served


def submit_all(gateway: Gateway, jobs: list[Job]) -> list[Job]:
    """Offer them one by one; those that were taken."""

    async def offer() -> list[Job]:
        queue = GatewayQueue(gateway.url, limits=gateway.limits)
        taken = []
        for job in jobs:
            try:
                await queue.submit(job)
            except QueueFull:
                continue
            taken.append(job)
        await queue.close()
        return taken

    return asyncio.run(offer())


# --- who sees what ---------------------------------------------------------------------------------------------------


def test_another_tenants_job_is_as_unknown_as_one_that_never_was(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(job := new_job(tenant="ann"))
    for call in (gateway.get, gateway.get_with_result, gateway.cancel, gateway.delete):
        with pytest.raises(JobNotFound):
            call(job.id, tenant="bob")
    assert gateway.list(tenant="bob").jobs == ()
    assert gateway.get(job.id, tenant="ann") == gateway.get(job.id) == job
    assert claimed(worker).job.id == job.id, "nothing was canceled or deleted"


def test_a_list_of_one_tenant_has_its_jobs_in_every_state_and_page(gateway: Gateway, worker: WorkerQueue) -> None:
    jobs = [new_job(tenant=tenant, created_ms=at) for at in range(6) for tenant in ("ann", "bob")]
    for job in jobs:
        gateway.submit(job)
    worker.succeed(lease := claimed(worker), Timings())
    own = [job.id for job in reversed(jobs) if job.tenant == "ann"]
    first = gateway.list(tenant="ann", limit=4)
    rest = gateway.list(tenant="ann", limit=4, cursor=first.next_cursor)
    assert [job.id for job in first.jobs + rest.jobs] == own
    assert rest.next_cursor is None
    assert [job.id for job in gateway.list(tenant="ann", state="succeeded").jobs] == [lease.job.id]
    assert gateway.list(tenant="bob", state="succeeded").jobs == ()


# --- whose turn it is ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty_redis_url")
def test_a_flood_of_one_tenant_holds_up_nobody_else(gateway: Gateway, worker: WorkerQueue) -> None:
    flood = submit_all(gateway, [new_job(tenant="ann") for _ in range(500)])
    for _ in range(3):
        worker.succeed(claimed(worker), Timings())
    few = submit_all(gateway, [new_job(tenant="bob") for _ in range(10)])
    served = order_of_claims(worker, 40)
    waits = [number for number, job in enumerate(served) if job.tenant == "bob"]
    assert waits == list(range(1, 21, 2)), "every second turn, from the first round on"
    assert [job.id for job in served if job.tenant == "bob"] == [job.id for job in few]
    assert [job.id for job in served if job.tenant == "ann"] == [job.id for job in flood[3:33]]


def test_tenants_take_turns_whoever_came_first_and_however_many_they_are(gateway: Gateway, worker: WorkerQueue) -> None:
    for tenant, count in (("ann", 4), ("bob", 1), ("cat", 2)):
        for _ in range(count):
            gateway.submit(new_job(tenant=tenant))
    assert [job.tenant for job in order_of_claims(worker, 7)] == ["ann", "bob", "cat", "ann", "cat", "ann", "ann"]
    assert worker.claim() is None


def test_who_comes_back_joins_the_end_of_the_round(gateway: Gateway, worker: WorkerQueue) -> None:
    for tenant in ("ann", "bob", "cat"):
        gateway.submit(new_job(tenant=tenant))
    assert claimed(worker).job.tenant == "ann"
    gateway.submit(new_job(tenant="ann"))
    assert [claimed(worker).job.tenant for _ in range(3)] == ["bob", "cat", "ann"]


def test_turns_outlive_redis(redis_server: Any) -> None:
    gateway, worker = Gateway(redis_server.url), WorkerQueue(redis_server.url, lease_s=30)
    for tenant in ("ann", "ann", "bob", "bob"):
        gateway.submit(new_job(tenant=tenant))
    assert claimed(worker).job.tenant == "ann"
    redis_server.kill()
    redis_server.start()
    assert [claimed(worker).job.tenant for _ in range(3)] == ["bob", "ann", "bob"]
    worker.close()


# --- how many there may be -------------------------------------------------------------------------------------------


def test_exactly_the_overflow_is_refused_and_nothing_accepted_is_dropped(
    hasty_redis_url: str, worker: WorkerQueue, raw: redis.Redis
) -> None:
    gateway = Gateway(hasty_redis_url, limits=L3)
    offered = [new_job() for _ in range(1200)]
    taken = submit_all(gateway, offered)
    assert taken == offered[:1000]
    with pytest.raises(QueueFull):
        gateway.require_room("public")
    assert gateway.depth().queued == 1000
    assert raw.zrange("mien:waiting:public", 0, -1) == [job.id for job in taken]
    assert [job.id for job in order_of_claims(worker, 20)] == [job.id for job in taken[:20]]
    gateway.require_room("public")


def test_many_gateways_at_once_do_not_overfill_the_queue(redis_url: str) -> None:
    async def offer() -> list[bool]:
        queues = [GatewayQueue(redis_url, limits=Limits(jobs=20)) for _ in range(4)]
        results = await asyncio.gather(*(queues[number % 4].submit(new_job()) for number in range(40)), return_exceptions=True)
        for queue in queues:
            await queue.close()
        return [isinstance(result, QueueFull) for result in results]

    assert asyncio.run(offer()).count(True) == 20


def test_bytes_are_counted_as_well_and_freed_as_jobs_begin(redis_url: str, worker: WorkerQueue) -> None:
    gateway = Gateway(redis_url, limits=Limits(bytes=2500))
    sized = [new_job().model_copy(update={"size_bytes": size}) for size in (1000, 1400, 101)]
    gateway.submit(sized[0])
    gateway.submit(sized[1])
    gateway.require_room("public", size_bytes=100)
    for refused in (lambda: gateway.require_room("public", size_bytes=101), lambda: gateway.submit(sized[2])):
        with pytest.raises(QueueFull):
            refused()
    claimed(worker)
    gateway.submit(sized[2])


def test_no_tenant_fills_the_queue_alone(redis_url: str) -> None:
    gateway = Gateway(redis_url, limits=Limits(jobs=10, tenant_jobs=3))
    for _ in range(3):
        gateway.submit(new_job(tenant="ann"))
    for refused in (lambda: gateway.require_room("ann"), lambda: gateway.submit(new_job(tenant="ann"))):
        with pytest.raises(QuotaExceeded) as caught:
            refused()
        assert caught.value.extra == {"quota": "queued-analyses"}
    gateway.submit(new_job(tenant="bob"))


def test_what_is_handed_back_finds_room_in_a_full_queue(redis_url: str, worker: WorkerQueue) -> None:
    gateway = Gateway(redis_url, limits=Limits(jobs=1))
    gateway.submit(new_job())
    lease = claimed(worker)
    gateway.submit(new_job())
    assert worker.release(lease)
    assert gateway.depth().queued == 2
    assert claimed(worker).job.id == lease.job.id


def test_a_tenant_who_waits_for_a_retry_holds_nobody_up(gateway: Gateway, new_worker: Callable[..., WorkerQueue]) -> None:
    worker = new_worker(backoff_s=0.2)
    gateway.submit(late := new_job(tenant="ann"))
    worker.retry(claimed(worker), Failure.of(InternalError()))
    gateway.submit(new_job(tenant="bob"))
    assert claimed(worker).job.tenant == "bob"
    assert worker.claim() is None
    time.sleep(0.25)
    assert claimed(worker).job.id == late.id
    assert gateway.get(late.id).state not in FINAL_STATES

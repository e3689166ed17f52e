"""One key, one job: whoever repeats a request gets the job that the first one made."""

import asyncio
import time
from typing import Any

import pytest
import redis

from shared.errors import (
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyRequestInProgress,
    JobNotFound,
    QueueFull,
    QueueUnavailable,
)
from shared.idempotency import Idempotency, fingerprint, key_digest
from shared.jobs import Job, Options, Timings
from shared.queue import GatewayQueue, Limits, WorkerQueue
from tests.shared.conftest import Gateway, claimed, new_job

KEY = key_digest("public", "my-key")
SAME = Idempotency(key=KEY, fingerprint=fingerprint("0" * 64, Options()))
CHANGED = Idempotency(key=KEY, fingerprint=fingerprint("1" * 64, Options()))


async def post(queue: GatewayQueue, job: Job, once: Idempotency = SAME, *, upload_s: float = 0.0, **held: float) -> str:
    """A request with a key, as the gateway answers it."""
    async with queue.answering(once.key, **held):
        await asyncio.sleep(upload_s)
        return await queue.submit(job, once)


def posted(url: str, *args: object, **kwargs: Any) -> str:
    async def call() -> str:
        queue = GatewayQueue(url)
        try:
            return await post(queue, *args, **kwargs)  # type: ignore[arg-type]
        finally:
            await queue.close()

    return asyncio.run(call())


def test_fifty_requests_at_once_make_one_job(gateway: Gateway, redis_url: str) -> None:
    async def storm() -> list[object]:
        queues = [GatewayQueue(redis_url) for _ in range(5)]
        results = await asyncio.gather(*(post(queues[number % 5], new_job(), upload_s=0.2) for number in range(50)), return_exceptions=True)
        for queue in queues:
            await queue.close()
        return results

    results = asyncio.run(storm())
    ids = {result for result in results if isinstance(result, str)}
    assert len(ids) == 1
    assert all(isinstance(result, str | IdempotencyRequestInProgress) for result in results)
    assert [job.id for job in gateway.list().jobs] == list(ids)
    assert posted(redis_url, new_job()) in ids


def test_a_repeated_request_is_answered_with_the_first_ones_job_whatever_became_of_it(
    gateway: Gateway, worker: WorkerQueue, redis_url: str
) -> None:
    first = posted(redis_url, new_job())
    assert posted(redis_url, new_job()) == first
    worker.succeed(claimed(worker), Timings())
    assert posted(redis_url, new_job()) == first
    assert len(gateway.list().jobs) == 1


def test_a_key_that_comes_with_something_else_is_refused(gateway: Gateway, redis_url: str) -> None:
    first = posted(redis_url, new_job())
    with pytest.raises(IdempotencyKeyReused):
        posted(redis_url, new_job(), CHANGED)
    assert [job.id for job in gateway.list().jobs] == [first]


def test_tenants_do_not_share_their_keys(redis_url: str) -> None:
    other = SAME.model_copy(update={"key": key_digest("ann", "my-key")})
    assert posted(redis_url, new_job()) != posted(redis_url, new_job(tenant="ann"), other)


def test_a_key_outlives_gateway_and_redis(redis_server: Any) -> None:
    first = posted(redis_server.url, new_job())
    redis_server.kill()
    redis_server.start()
    assert posted(redis_server.url, new_job()) == first


def test_while_one_is_answered_another_is_put_off(redis_url: str) -> None:
    async def two() -> None:
        queue = GatewayQueue(redis_url)
        async with queue.answering(KEY):
            with pytest.raises(IdempotencyRequestInProgress):
                await post(queue, new_job())
        await queue.close()

    asyncio.run(two())
    posted(redis_url, new_job())


def test_a_long_upload_keeps_its_key_and_a_dead_gateway_does_not(redis_url: str, raw: redis.Redis) -> None:
    async def upload() -> None:
        queue, other = GatewayQueue(redis_url), GatewayQueue(redis_url)
        long = asyncio.create_task(post(queue, new_job(), upload_s=0.6, lease_s=0.3))
        await asyncio.sleep(0.5)
        with pytest.raises(IdempotencyRequestInProgress):
            await post(other, new_job())
        first = await long
        assert await post(other, new_job()) == first
        await queue.close()
        await other.close()

    asyncio.run(upload())
    dead = key_digest("public", "another")
    raw.hset(f"mien:idempotency:{dead}", "holder", "x")
    raw.pexpire(f"mien:idempotency:{dead}", 200)
    with pytest.raises(IdempotencyRequestInProgress):
        posted(redis_url, new_job(), SAME.model_copy(update={"key": dead}))
    time.sleep(0.25)
    posted(redis_url, new_job(), SAME.model_copy(update={"key": dead}))


def test_a_gateway_that_was_frozen_beyond_its_lease_makes_no_second_job(redis_url: str, raw: redis.Redis) -> None:
    async def frozen() -> tuple[str, str]:
        queue, other = GatewayQueue(redis_url), GatewayQueue(redis_url)
        async with queue.answering(KEY):
            raw.delete(f"mien:idempotency:{KEY}")  # as it is when the lease has run out
            second = await post(other, new_job())
            first = await queue.submit(new_job(), SAME)
        await queue.close()
        await other.close()
        return first, second

    first, second = asyncio.run(frozen())
    assert first == second


def test_a_request_that_was_refused_leaves_its_key_free(redis_url: str, raw: redis.Redis) -> None:
    async def refused() -> None:
        full = GatewayQueue(redis_url, limits=Limits(jobs=0))
        with pytest.raises(QueueFull):
            await post(full, new_job())
        await full.close()

    asyncio.run(refused())
    assert raw.keys("mien:idempotency:*") == []
    posted(redis_url, new_job(), CHANGED)


def test_a_key_is_kept_for_seven_days_and_not_as_the_client_wrote_it(redis_url: str, raw: redis.Redis) -> None:
    posted(redis_url, new_job())
    assert raw.pttl(f"mien:idempotency:{KEY}") == pytest.approx(7 * 24 * 3600 * 1000, abs=5000)
    assert set(raw.hgetall(f"mien:idempotency:{KEY}")) == {"id", "fingerprint"}
    assert not any("my-key" in key for key in raw.keys("mien:*"))


def test_a_deleted_job_takes_its_key_along(gateway: Gateway, redis_url: str, raw: redis.Redis) -> None:
    first = posted(redis_url, new_job())
    gateway.delete(first)
    assert raw.keys("mien:idempotency:*") == []
    second = posted(redis_url, new_job(), CHANGED)
    assert second != first
    with pytest.raises(JobNotFound):
        gateway.get(first)


def test_a_key_has_between_1_and_255_characters() -> None:
    for key in ("", "x" * 256):
        with pytest.raises(IdempotencyKeyInvalid):
            key_digest("public", key)
    assert len({key_digest("public", key) for key in ("x" * 255, "é", "\n")}) == 3


def test_a_fingerprint_tells_what_was_asked_for_and_not_how() -> None:
    asked = fingerprint("0" * 64, Options(sample_fps=8))
    assert asked == fingerprint("0" * 64, Options())
    others = {
        fingerprint("0" * 64, Options(sample_fps=9)),
        fingerprint("1" * 64, Options()),
        fingerprint("0" * 64, Options(keep_video=True)),
    }
    assert len({asked, *others}) == 4


def test_a_key_outlives_the_version_that_it_was_given_to() -> None:
    """Digests made when keeping a video was no option yet: a client that repeats its request asks for the same."""
    assert fingerprint("0" * 64, Options()) == "4b0ae22ea6b285f852ee0afc3f065812accbc805205f40b4a9503e40da5de9d6"


def test_no_redis_no_answer(redis_server: Any) -> None:
    redis_server.kill()
    with pytest.raises(QueueUnavailable):
        posted(redis_server.url, new_job())

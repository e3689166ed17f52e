"""From a video in a file to an analysis that is promised: on the disk first, then in the queue, and once for every Idempotency-Key."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from anyio import to_thread

from shared.errors import QueueUnavailable
from shared.idempotency import Idempotency, fingerprint, key_digest
from shared.jobs import Job, Options, Tenant
from shared.queue import GatewayQueue
from shared.videos import Videos


def job_of(
    job_id: str, *, tenant: Tenant, size_bytes: int, sha256: str, options: Options, request_id: str = "", traceparent: str = ""
) -> Job:
    """`request_id` and `traceparent` name the request that brought the video, for logs and traces."""
    return Job(
        id=job_id,
        tenant=tenant,
        size_bytes=size_bytes,
        sha256=sha256,
        options=options,
        request_id=request_id,
        traceparent=traceparent,
        created_ms=time.time_ns() // 1_000_000,
    )


def digest_of(tenant: Tenant, key: str | None) -> str | None:
    """What is kept of an Idempotency-Key. Raises IdempotencyKeyInvalid."""
    return None if key is None else key_digest(tenant, key)


def idempotency_of(job: Job, key: str | None) -> Idempotency | None:
    """`key` is a `digest_of`."""
    return None if key is None else Idempotency(key=key, fingerprint=fingerprint(job.sha256, job.options))


def answering(queue: GatewayQueue, key: str | None) -> AbstractAsyncContextManager[None]:
    """Around a request with this key, from before its body is read. Raises IdempotencyRequestInProgress, QueueUnavailable."""
    return nullcontext() if key is None else queue.answering(key)


async def accept(job: Job, idempotency: Idempotency | None, *, videos: Videos, queue: GatewayQueue) -> Job:
    """Promise the analysis of a video that is whole in its file: the job as it was accepted, which is an earlier one when the same was
    asked for with the same key before.

    Raises StorageError, QueueUnavailable, QueueFull, QuotaExceeded, IdempotencyKeyReused. Afterwards nothing of the job is left,
    but for one case: when Redis does not say whether it has queued a job with a key, the job stays. Whoever asks again with that key
    finds it, and if nobody does, it is put back from its folder, as after a crash.
    """
    async with nothing_left_on_failure(videos, job.id):
        await to_thread.run_sync(videos.accept, job, idempotency)
    unsure = (QueueUnavailable, asyncio.CancelledError) if idempotency else ()
    async with nothing_left_on_failure(videos, job.id, but_for=unsure):
        standing = await queue.submit(job, idempotency)
    if standing == job.id:
        return job
    await to_thread.run_sync(videos.delete, job.id)
    return await to_thread.run_sync(videos.manifest, standing)


@asynccontextmanager
async def nothing_left_on_failure(videos: Videos, job_id: str, *, but_for: tuple[type[BaseException], ...] = ()) -> AsyncIterator[None]:
    """Whatever goes wrong inside, the client going away and the server stopping included, no byte of the upload stays."""
    try:
        yield
    except but_for:
        raise
    except Exception:
        await to_thread.run_sync(videos.delete, job_id)
        raise
    except asyncio.CancelledError:
        videos.delete(job_id)  # the server is stopping, and waits for nobody: now or never
        raise

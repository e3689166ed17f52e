"""Keeps data folder and Redis in step. The folder is the truth about what was accepted and how it ended; Redis is an index of it.

`tidy` is called every minute by any number of processes, `reconcile` alone before a service takes on work. Both may be killed at
any point, and run beside anything else: each step is one that may be done twice, and what must not be forgotten is written
before anything is removed.
"""

import logging
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

from shared.errors import MediaMissing, ResultUnreadable, StorageError
from shared.idempotency import Idempotency
from shared.jobs import FINAL_STATES, Contract, Job, JobState, Progress, Stage
from shared.queue_upkeep import Restored, Untidied, UpkeepQueue
from shared.results import Result
from shared.videos import End, Videos

log = logging.getLogger(__name__)

SETTLED_S: Final = 60.0
"""After the end, whoever was still busy with the video has noticed; with a call every minute, it is gone well within five. After
acceptance, a job that is not queued will not be, for its gateway has died."""
AT_ONCE: Final = 500
VOID: Final = frozenset({Restored.DELETED, Restored.EXPIRED, Restored.REPEATED})


class Upkeep(Contract):
    """What one call has done."""

    tidied: int
    """Folders of ended jobs that hold only what is kept."""
    restored: int
    """Jobs that Redis knows again."""
    removed: int
    """Folders that were past their time, or that nobody was promised."""


class Told(Contract):
    """What a folder tells about its job."""

    end: End
    """Not an end yet, if the job has none."""
    idempotency: Idempotency | None


def tidy(videos: Videos, queue: UpkeepQueue) -> Upkeep:
    """All that is to be done about once a minute.

    Raises StorageError when the data folder cannot be listed, QueueUnavailable; what cannot be done to one job is logged, and tried
    again by the next call.
    """
    tidied = clear_ended(videos, queue)
    restored, removed = reconcile(videos, queue, settled_s=SETTLED_S)
    videos.sweep()
    return Upkeep(tidied=tidied, restored=restored, removed=removed)


def clear_ended(videos: Videos, queue: UpkeepQueue, *, settled_s: float = SETTLED_S) -> int:
    """Delete the videos of jobs that have ended, and what attempts have left that do not count; how many jobs."""
    cleared = 0
    while batch := queue.ended(ago_s=settled_s):
        done = sum(clear(videos, queue, untidied) for untidied in batch)
        cleared += done
        if done < len(batch):
            break  # the disk is in trouble: the next minute is soon enough
    return cleared


def clear(videos: Videos, queue: UpkeepQueue, untidied: Untidied) -> bool:
    """One job's folder. First the end is written down: without it, a job without a video could not be told from one that is lost."""
    end = untidied.end
    try:
        videos.write_end(end)
        videos.clear(end, keep_video=keeps_video(end.job))
    except MediaMissing:
        pass  # deleted as a whole, which is as tidy as can be
    except StorageError as error:
        log.warning("not tidied", extra={"job_id": end.job.id, "reason": str(error.__cause__ or error)})
        return False
    queue.tidied(untidied)
    return True


def keeps_video(job: Job) -> bool:
    """Consent to training is one to cut faces from the video, which takes the video."""
    return job.options.keep_video or job.options.training_consent


def reconcile(videos: Videos, queue: UpkeepQueue, *, settled_s: float = 0.0) -> tuple[int, int]:
    """Put back every accepted job that Redis does not know, or knows as less far; how many were, and how many folders were removed.

    A result on the disk is one that was brought, whoever was about to say so: like the queue, this takes the first.

    settled_s: leave alone what was accepted, or has ended, less long ago. A running gateway may be about to queue it, or to take it
    back; a worker, to tell that it has written a result.

    Raises StorageError, QueueUnavailable.
    """
    lost = sorted(told(videos, queue, settled_s=settled_s), key=lambda told: (told.end.job.created_ms, told.end.job.id))
    verdicts = [put_back(videos, queue, job) for job in lost]
    restored, removed = verdicts.count(Restored.RESTORED), sum(verdict in VOID for verdict in verdicts)
    if restored or removed:
        log.warning("reconciled", extra={"restored": restored, "removed": removed})
    return restored, removed


def told(videos: Videos, queue: UpkeepQueue, *, settled_s: float) -> Iterator[Told]:
    """What the folders tell about jobs that Redis does not know, or takes for unfinished although there is an end or a result."""
    before = time.time() - settled_s
    for job_id, state in unfinished(videos, queue):
        try:
            end = told_by_folder(videos, job_id)
            changed = videos.accepted_at(job_id) if end.job.ended_ms is None else end.job.ended_ms / 1000
            if changed <= before and (state is None or end.job.state in FINAL_STATES):
                yield Told(end=end, idempotency=videos.idempotency(job_id))
        except MediaMissing:
            continue  # deleted meanwhile
        except StorageError as error:
            log.warning("a job that cannot be put back", extra={"job_id": job_id, "reason": str(error.__cause__ or error)})


def unfinished(videos: Videos, queue: UpkeepQueue) -> Iterator[tuple[str, JobState | None]]:
    """The analyses of which Redis knows no end."""
    ids = iter(videos.ids())
    while batch := list(islice(ids, AT_ONCE)):
        yield from ((job_id, state) for job_id, state in queue.states(batch).items() if state not in FINAL_STATES)


def put_back(videos: Videos, queue: UpkeepQueue, job: Told) -> Restored:
    """One job. What is not to be put back is not to be kept either."""
    verdict = queue.restore(job.end, job.idempotency)
    if verdict in VOID:
        try:
            videos.delete(job.end.job.id)
        except StorageError as error:
            log.warning("not removed", extra={"job_id": job.end.job.id, "reason": str(error.__cause__ or error)})
    return verdict


def told_by_folder(videos: Videos, job_id: str) -> End:
    """The end if it is written; else success if there is a result; else the job as it was accepted, charged with the attempts that have
    left a trace: it may kill no more workers than if Redis had forgotten nothing. Raises MediaMissing, StorageError."""
    if end := videos.end(job_id):
        return end
    job = videos.manifest(job_id).model_copy(update={"attempts": videos.attempts(job_id)})
    for attempt in videos.results(job_id):
        try:
            result = videos.read_result(job_id, attempt)
        except ResultUnreadable:
            continue
        return End(job=succeeded(job, result, ended_ms=videos.result_written_ns(job_id, attempt) // 1_000_000), attempt=attempt)
    return End(job=job)


def succeeded(job: Job, result: Result, *, ended_ms: int) -> Job:
    """The record of a job of which only the result is left: how long its stages took, nobody knows any more."""
    return job.model_copy(
        update={
            "state": JobState.SUCCEEDED,
            "attempts": max(1, job.attempts),
            "ended_ms": ended_ms,
            "release": result.model.release,
            "warnings": tuple(result.warnings),
            "progress": Progress(stage=Stage.DONE, frames_done=result.coverage.frames_sampled, percent=100),
        }
    )

"""The queue's side of those who keep data folder and Redis in step; `shared.upkeep` uses it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from uuid import uuid4

from shared.idempotency import Idempotency
from shared.jobs import Contract, JobState
from shared.queue_script import PatientScript, decode, encode, milliseconds, record_of
from shared.videos import End


class Restored(StrEnum):
    """What became of a job that was to be put back."""

    RESTORED = "restored"
    KNOWN = "known"
    """It is there, and at least as far as its folder says."""
    DELETED = "deleted"
    """It was deleted meanwhile."""
    EXPIRED = "expired"
    """It ended longer ago than anything is kept."""
    REPEATED = "repeated"
    """Another job stands for the same request; nobody was promised this one."""


class Untidied(Contract):
    """A job that has ended since its folder was last tidied."""

    end: End
    due: str
    """Names this end: a losing attempt that delivers later makes the folder due again."""


class UpkeepQueue:
    """Blocking and safe to share between threads; every call raises QueueUnavailable when Redis does not answer."""

    def __init__(self, url: str) -> None:
        self._call = PatientScript(url)

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobState | None]:
        """The states of these jobs, at most 1,000; None of those that Redis does not know, or is to forget by now."""
        states = self._call("states", *job_ids)
        return {job_id: JobState(state) if state else None for job_id, state in zip(job_ids, states, strict=True)}

    def restore(self, end: End, idempotency: Idempotency | None = None) -> Restored:
        """Put a job back as its folder tells it: queued, at the end of its tenant's line, or final. Limits keep no such job out."""
        return Restored(self._call("restore", end.job.id, *encode(end.job, idempotency), *(("lease", end.attempt) if end.attempt else ())))

    def ended(self, *, ago_s: float) -> list[Untidied]:
        """Jobs, at most 100, that ended at least this long ago and whose folder was not tidied since; the longest ago first."""
        return [Untidied(end=_end(fields), due=due) for due, fields in self._call("ended", milliseconds(ago_s))]

    def tidied(self, untidied: Untidied) -> None:
        """The folder is as it shall stay."""
        self._call("tidied", untidied.end.job.id, untidied.due)

    def generation(self) -> str:
        """Names the data that Redis has: it is another one after Redis has lost what it had, and only then."""
        return str(self._call("generation", uuid4().hex))

    def close(self) -> None:
        self._call.redis.close()


def _end(fields: Sequence[str]) -> End:
    job = decode(fields)
    return End(job=job, attempt=record_of(fields).get("lease", "") if job.state is JobState.SUCCEEDED else "")

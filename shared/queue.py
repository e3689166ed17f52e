"""The job queue and the job records, in Redis: leases on a stream, so that a job outlives the worker that runs it.

`queue.lua`, beside this file, holds every key and every change of a job's state; its head maps both. This file holds what
the two sides need to call it: `GatewayQueue` is asynchronous and impatient, `WorkerQueue` is blocking and patient.

What it promises: a job that was submitted ends exactly once, in one final state, whatever dies meanwhile; it may be begun
more than once, so running it must be safe to repeat. An attempt is counted before it runs. Only the attempt that holds the
lease changes a running job, but for a finished result, which is taken from the first that brings it.
"""

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError  # noqa: A004
from redis.retry import Retry

from shared.errors import AttemptsExhausted, JobNotFound, NothingToRollBack, QueueUnavailable, StateConflict
from shared.jobs import FINAL_STATES, Contract, Failure, Job, JobState, Progress, Timings

Alias = Literal["champion", "canary", "shadow"]
"""What a release is used for. Only the champion judges jobs."""
CHAMPION: Final[Alias] = "champion"

_SCRIPT: Final = Path(__file__).with_name("queue.lua").read_text()
_TEXT_FIELDS: Final = frozenset({"id", "sha256", "state"})
_PLACE: Final = re.compile(r"\d{13} an_[0-9a-f]{32}")
_LOST_CONNECTION: Final = (ConnectionError, TimeoutError, BusyLoadingError)
_GATEWAY_ANSWERS_WITHIN_S: Final = 2.0


class JobPage(Contract):
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    next_cursor: str | None
    """Where the next page begins; null on the last one."""


class Depth(Contract):
    """How many jobs are on their way."""

    queued: int
    """Ready to be claimed."""
    running: int
    delayed: int
    """Waiting for their next try."""


class Beat(StrEnum):
    """What a beat or a report is answered with."""

    HELD = "held"
    LOST = "lost"
    """Somebody else has the job, or it is gone: stop, and report nothing but a finished result."""
    CANCEL = "cancel"
    """Still held, but the client asked to stop."""


class Lease(Contract):
    """The right to run a job, for as long as it is beaten for."""

    job: Job
    """As it was claimed, or pinned."""
    token: str
    """Names this attempt, and no other."""

    @property
    def attempt(self) -> int:
        """1 for the first attempt at the job."""
        return self.job.attempts


class GatewayQueue:
    """The gateway's side. Every call raises QueueUnavailable when Redis has not answered within 2 seconds."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_GATEWAY_ANSWERS_WITHIN_S,
            socket_connect_timeout=1.0,
            retry=AsyncRetry(ExponentialBackoff(cap=0.4, base=0.05), 4),
            retry_on_error=list(_LOST_CONNECTION),
        )
        self._script = self._redis.register_script(_SCRIPT)

    async def submit(self, job: Job) -> bool:
        """Queue a job. False when a job with this id exists already, so that asking again is harmless."""
        return bool(await self._call("submit", job.id, *_encode(job)))

    async def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        return _found(await self._call("get", job_id))

    async def list(self, *, state: JobState | None = None, limit: int = 20, cursor: str | None = None) -> JobPage:
        """The jobs, newest first, in one state if given. Raises ValueError when the cursor is not one of ours.

        Jobs that arrive or end between two pages move nothing: a cursor names the last job that was seen.
        """
        before = f"({_place_from(cursor)}" if cursor else "+"
        found = [_decode(fields) for fields in await self._call("list", state or "all", before, limit + 1)]
        jobs = tuple(found[:limit])
        return JobPage(jobs=jobs, next_cursor=_cursor_after(jobs[-1]) if len(found) > limit else None)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once, or ask a running one to stop; asking again is harmless.

        Raises JobNotFound; StateConflict when the job has ended otherwise.
        """
        state, fields = await self._call("cancel", job_id)
        job = _found(fields)
        if state in FINAL_STATES - {JobState.CANCELED}:
            raise StateConflict(f"state: {job.state}", state=job.state)
        return job

    async def delete(self, job_id: str) -> None:
        """Forget a job. One that runs is told to stop at its next report, and its result is refused. Raises JobNotFound."""
        if not await self._call("delete", job_id):
            raise JobNotFound(f"no analysis {job_id}")

    async def depth(self) -> Depth:
        queued, running, delayed = await self._call("depth")
        return Depth(queued=queued, running=running, delayed=delayed)

    async def alias(self, name: Alias) -> int | None:
        """The version of the release with this alias."""
        return _version(await self._call("alias", name))

    async def ping(self) -> None:
        with _redis_errors():
            async with asyncio.timeout(_GATEWAY_ANSWERS_WITHIN_S):
                await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()

    async def _call(self, command: str, *args: str | int) -> Any:
        with _redis_errors():
            async with asyncio.timeout(_GATEWAY_ANSWERS_WITHIN_S):
                return await self._script(args=[command, *args])


class WorkerQueue:
    """A worker's side. Blocking and safe to share between threads; every call raises QueueUnavailable when Redis does not answer."""

    def __init__(self, url: str, *, lease_s: float = 20.0, max_attempts: int = 10, max_errors: int = 3, backoff_s: float = 5.0) -> None:
        """
        lease_s: how long a job stays with an attempt that does not beat.
        max_attempts: a job that was begun this often, and whose worker died each time, fails with attempts-exhausted.
        max_errors: a job that `retry` was called for this often fails.
        backoff_s: the wait after the first such error; each further one is four times as long, up to ten minutes.
        """
        self.url = url
        self.lease_s = lease_s
        self._max_attempts = max_attempts
        self._max_errors = max_errors
        self._backoff_ms = _milliseconds(backoff_s)
        self._exhausted = Failure.of(AttemptsExhausted(f"{max_attempts} attempts")).model_dump_json()
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=10.0,
            socket_connect_timeout=3.0,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), 3),
            retry_on_error=list(_LOST_CONNECTION),
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._steal_from: float | None = None
        self._outage_seen = False

    def setup(self) -> None:
        """Make the stream. Calling it again is harmless."""
        self._call("setup")

    def claim(self) -> Lease | None:
        """The next job, for one lease: one whose holder fell silent, else the oldest in the queue. None when there is none."""
        token = uuid4().hex
        fields = self._call("claim", token, _milliseconds(self.lease_s), int(self._may_steal()), self._max_attempts, self._exhausted)
        return Lease(job=_decode(fields), token=token) if fields else None

    def wait(self, timeout_s: float) -> None:
        """Sleep until a job that nobody has been given arrives, or for `timeout_s` (under 10 s)."""
        stream, last = self._call("tail")
        with self._errors():
            self._redis.xread({stream: last}, count=1, block=_milliseconds(timeout_s))

    def beat(self, lease: Lease) -> Beat:
        """Keep the lease for another `lease_s`."""
        return Beat(self._call("beat", lease.job.id, lease.token))

    def pin(self, lease: Lease, release: int) -> Lease:
        """Write down which release judges the job in this attempt; the lease as it is from now on. Does nothing for a lost lease."""
        self._call("pin", lease.job.id, lease.token, release)
        return lease.model_copy(update={"job": lease.job.model_copy(update={"release": release})})

    def report(self, lease: Lease, progress: Progress) -> Beat:
        """Show how far the job is. 100 percent is kept for jobs that have succeeded."""
        shown = progress.model_copy(update={"percent": min(progress.percent, 99)})
        return Beat(self._call("report", lease.job.id, lease.token, shown.model_dump_json()))

    def succeed(self, lease: Lease, timings: Timings, warnings: Sequence[str] = ()) -> bool:
        """The result is written. False when the job ended otherwise meanwhile, or was deleted: then this result does not count."""
        pinned = ("release", lease.job.release) if lease.job.release else ()
        details = ("timings", timings.model_dump_json(), "warnings", json.dumps(tuple(warnings)), *pinned)
        return bool(self._call("succeed", lease.job.id, lease.token, *details))

    def fail(self, lease: Lease, failure: Failure) -> bool:
        """The job cannot be done. False when the lease was lost."""
        return bool(self._call("fail", lease.job.id, lease.token, failure.model_dump_json()))

    def canceled(self, lease: Lease) -> bool:
        """The job has stopped because it was asked to. False when the lease was lost."""
        return bool(self._call("canceled", lease.job.id, lease.token))

    def release(self, lease: Lease) -> bool:
        """Hand the job back for anyone to take at once; the attempt does not count. False when the lease was lost."""
        return bool(self._call("release", lease.job.id, lease.token))

    def postpone(self, lease: Lease, failure: Failure, *, deadline_s: float) -> JobState | None:
        """Hand the job back because no model answers, or fail it if that first happened `deadline_s` ago.

        The attempt does not count, unless it has analysed a frame: then a model did answer, and the wait begins anew.
        The job's new state, or None when the lease was lost.
        """
        return _state(self._call("postpone", lease.job.id, lease.token, _milliseconds(deadline_s), failure.model_dump_json()))

    def retry(self, lease: Lease, failure: Failure) -> JobState | None:
        """Try the job again after a while, or fail it if this was its last try. Its new state; None when the lease was lost."""
        return _state(self._call("retry", lease.job.id, lease.token, self._backoff_ms, self._max_errors, failure.model_dump_json()))

    def fail_stranded(self, failure: Failure, *, waited_s: float) -> int:
        """Fail the jobs accepted more than `waited_s` ago, provided that no worker at all held a job since; how many (at most 200)."""
        return int(self._call("fail_stranded", _milliseconds(waited_s), failure.model_dump_json()))

    def alias(self, name: Alias) -> int | None:
        """The version of the release with this alias."""
        return _version(self._call("alias", name))

    def default_alias(self, name: Alias, version: int) -> int:
        """Give the alias to this version unless some version has it; the version that has it now."""
        return int(self._call("default_alias", name, version))

    def alias_history(self, name: Alias) -> tuple[int, ...]:
        """The versions that had the alias before the one that has it now, the latest first; at most 20."""
        return tuple(int(text) for text in self._call("alias_history", name))

    def promote(self, name: Alias, version: int) -> None:
        """Give the alias to this version, and remember which one had it. Does nothing when it has the alias already."""
        self._call("promote", name, version)

    def rollback(self, name: Alias, *, to: int | None = None) -> int:
        """Give the alias back to the version that had it before, and forget that another one had it since; that version.

        With `to`, only if that is the version: whoever has made it ready gets no other. Raises NothingToRollBack.
        """
        earlier = self.alias_history(name)[:1] if to is None else (to,)
        if not earlier:
            raise NothingToRollBack(f"{name} has never been another release")
        if not self._call("rollback", name, earlier[0]):
            raise NothingToRollBack(f"release {earlier[0]} is not the {name} before this one; somebody else has moved it")
        return earlier[0]

    def close(self) -> None:
        self._redis.close()

    def _may_steal(self) -> bool:
        """Whether a silent holder counts as dead.

        While Redis was away nobody could beat, so holders get one lease of time to be heard again. Without this, an outage
        longer than the lease would start every running job a second time.
        """
        if self._steal_from is None:
            with self._errors():
                uptime_s = self._redis.info("server")["uptime_in_seconds"]
            self._steal_from = time.monotonic() + (self.lease_s if self._outage_seen else max(0.0, self.lease_s - uptime_s))
        return time.monotonic() >= self._steal_from

    def _call(self, command: str, *args: str | int) -> Any:
        with self._errors():
            return self._script(args=[command, *args])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with _redis_errors():
                yield
        except QueueUnavailable:
            self._outage_seen, self._steal_from = True, None
            raise


@contextmanager
def _redis_errors() -> Iterator[None]:
    """Redis's errors stop here. Their text may name hosts, so it stays in the cause, for logs."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise QueueUnavailable(type(error).__name__) from error


def _encode(job: Job) -> list[str]:
    """A job as the flat list of fields and values that a Redis hash takes; what is None has no field."""
    fields = job.model_dump(mode="json", exclude_none=True)
    return [text for name, value in fields.items() for text in (name, value if name in _TEXT_FIELDS else json.dumps(value))]


def _decode(fields: Sequence[str]) -> Job:
    """The inverse of `_encode`; fields that are not the job's are the script's own."""
    record: Mapping[str, str] = dict(zip(fields[::2], fields[1::2], strict=True))
    return Job.model_validate(
        {name: text if name in _TEXT_FIELDS else json.loads(text) for name, text in record.items() if name in Job.model_fields}
    )


def _found(fields: Sequence[str]) -> Job:
    if not fields:
        raise JobNotFound
    return _decode(fields)


def _cursor_after(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_ms:013d} {job.id}".encode()).decode()


def _place_from(cursor: str) -> str:
    try:
        place = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except ValueError:
        place = ""
    if not _PLACE.fullmatch(place):
        raise ValueError("not a cursor of this list")
    return place


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _state(text: str | None) -> JobState | None:
    return None if text is None else JobState(text)


def _version(text: str | None) -> int | None:
    return None if text is None else int(text)

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
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.durability import unsafe
from shared.errors import (
    AttemptsExhausted,
    Gone,
    IdempotencyKeyReused,
    IdempotencyRequestInProgress,
    InternalError,
    JobNotFound,
    NothingToRollBack,
    QueueFull,
    QueueUnavailable,
    QuotaExceeded,
    StateConflict,
)
from shared.idempotency import Idempotency
from shared.jobs import FINAL_STATES, Contract, Failure, Job, JobState, Progress, Tenant, Timings
from shared.queue_script import ImpatientScript, PatientScript, decode, decode_whole, encode, milliseconds, record_of, redis_errors

log = logging.getLogger(__name__)

Alias = Literal["champion", "canary", "shadow"]
"""What a release is used for. Only the champion judges jobs."""
CHAMPION: Final[Alias] = "champion"

_PLACE: Final = re.compile(r"\d{13} an_[0-9a-f]{32}")
_REQUEST_LEASE_S: Final = 30.0
_LEFT_FOR_S: Final = 5.0
_LEFT_AT_MOST_S: Final = 3600.0
"""A job that no worker knows what to do about has long seen every one of them renewed."""


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
    oldest_s: float
    """For how long the oldest job that is not running has been known; 0 when there is none."""


class Limits(Contract):
    """How much may wait. What is on its way already is never dropped, so running jobs that are handed back may go beyond."""

    jobs: int = 1000
    bytes: int = 20 * 2**30
    """Size of the videos of all queued jobs."""
    tenant_jobs: int = 500
    """Queued jobs of one tenant: fewer than all, so that none fills the queue alone."""


class Look(Contract):
    """A job at one moment."""

    job: Job
    attempt: str
    """The attempt whose result counts: "" unless the job has succeeded."""
    revision: int
    """Grows with every change of the record."""


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
    """The gateway's side. Every call raises QueueUnavailable when Redis has not answered within 2 seconds.

    Calls that name a job take the tenant who asks: to that one, another's job is as unknown as one that never was.
    Without a tenant they are about everybody's. Their JobNotFound is Gone where the tenant had the job until lately.
    """

    def __init__(self, url: str, *, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.url = url
        self._limits = limits
        self._call = ImpatientScript(url)

    async def require_room(self, tenant: Tenant, *, size_bytes: int = 0) -> None:
        """Raises what `submit` would for a further job: cheap enough to ask before an upload is read."""
        _raise_refusal(await self._call("room", tenant, size_bytes, *self._most()))

    async def submit(self, job: Job, idempotency: Idempotency | None = None) -> str:
        """Queue a job; the id of the job that stands for this request.

        That is another one when the same was asked for with the same key before, whatever became of it; asking again with the same
        id is harmless, too. Raises QueueFull, QuotaExceeded, IdempotencyKeyReused.
        """
        verdict, standing = await self._call("submit", job.id, *self._most(), *encode(job, idempotency))
        _raise_refusal(verdict)
        return str(standing)

    @asynccontextmanager
    async def answering(self, key: str, *, lease_s: float = _REQUEST_LEASE_S) -> AsyncIterator[None]:
        """Around a request with this idempotency key (a `key_digest`), from before its body is read until `submit`.

        Raises IdempotencyRequestInProgress when another request with the key is being answered. One whose gateway died is
        over after `lease_s`. Does not wait, and does not keep a request out whose key a job stands for: `submit` knows better.
        """
        holder = uuid4().hex
        if not await self._call("hold_key", key, holder, milliseconds(lease_s)):
            raise IdempotencyRequestInProgress
        holding = asyncio.create_task(self._keep_key(key, holder, lease_s))
        try:
            yield
        finally:
            holding.cancel()
            with suppress(QueueUnavailable):  # then the key is free when the lease has run out
                await self._call("drop_key", key, holder)

    async def get(self, job_id: str, *, tenant: Tenant | None = None) -> Job:
        """Raises JobNotFound."""
        return _found(await self._call("get", job_id, tenant or ""))

    async def get_with_result(self, job_id: str, *, tenant: Tenant | None = None) -> tuple[Job, str]:
        """The job, and the name of the attempt whose result counts: "" unless it has succeeded. Raises JobNotFound."""
        fields = await self._call("get", job_id, tenant or "")
        job = _found(fields)
        return job, record_of(fields)["lease"] if job.state is JobState.SUCCEEDED else ""

    async def look(self, job_id: str, *, tenant: Tenant | None = None) -> Look:
        """The job as it is now, and what tells that from how it was before. Raises JobNotFound."""
        fields = await self._call("get", job_id, tenant or "")
        job = _found(fields)
        record = record_of(fields)
        attempt = record["lease"] if job.state is JobState.SUCCEEDED else ""
        return Look(job=job, attempt=attempt, revision=int(record.get("revision", 0)))

    async def revisions(self, job_ids: Sequence[str]) -> Mapping[str, int | None]:
        """What the records of these jobs, at most 1,000, have come to; None of those that are not known."""
        revisions = await self._call("revisions", *job_ids)
        return {job_id: int(revision) if revision else None for job_id, revision in zip(job_ids, revisions, strict=True)}

    async def list(
        self, *, tenant: Tenant | None = None, state: JobState | None = None, limit: int = 20, cursor: str | None = None
    ) -> JobPage:
        """The jobs, newest first, in one state if given. Raises ValueError when the cursor is not one of ours.

        Jobs that arrive or end between two pages move nothing: a cursor names the last job that was seen.
        """
        before = f"({_place_from(cursor)}" if cursor else "+"
        found = [decode(fields) for fields in await self._call("list", tenant or "", state or "all", before, limit + 1)]
        jobs = tuple(found[:limit])
        return JobPage(jobs=jobs, next_cursor=_cursor_after(jobs[-1]) if len(found) > limit else None)

    async def cancel(self, job_id: str, *, tenant: Tenant | None = None) -> Job:
        """Cancel a queued job at once, or ask a running one to stop; asking again is harmless.

        Raises JobNotFound; StateConflict when the job has ended otherwise.
        """
        state, fields = await self._call("cancel", job_id, tenant or "")
        job = _found(fields)
        if state in FINAL_STATES - {JobState.CANCELED}:
            raise StateConflict(f"state: {job.state}", state=job.state)
        return job

    async def delete(self, job_id: str, *, tenant: Tenant | None = None) -> None:
        """Forget a job, and the idempotency key it was asked for with. One that runs is told to stop at its next report, and its
        result is refused. To be called after its folder was deleted. Raises JobNotFound."""
        why_not = await self._call("delete", job_id, tenant or "")
        if why_not is not None:
            raise _absence(why_not)

    async def depth(self) -> Depth:
        queued, running, delayed, oldest_ms = await self._call("depth")
        return Depth(queued=queued, running=running, delayed=delayed, oldest_s=oldest_ms / 1000)

    async def alias(self, name: Alias) -> int | None:
        """The version of the release with this alias."""
        return _version(await self._call("alias", name))

    async def ping(self) -> None:
        await self._call.ping()

    async def unsafe_settings(self) -> tuple[str, ...]:
        """Those settings of Redis with which an accepted job could be lost, and what they should be; to be asked by readiness."""
        return unsafe(await self._call.settings())

    async def close(self) -> None:
        await self._call.redis.aclose()

    def _most(self) -> tuple[int, int, int]:
        return self._limits.jobs, self._limits.bytes, self._limits.tenant_jobs

    async def _keep_key(self, key: str, holder: str, lease_s: float) -> None:
        while True:
            await asyncio.sleep(lease_s / 3)
            try:
                await self._call("hold_key", key, holder, milliseconds(lease_s))
            except QueueUnavailable as error:
                log.warning("an idempotency key is not held on to", extra={"reason": str(error.__cause__ or error)})


class WorkerQueue:
    """A worker's side. Blocking and safe to share between threads; every call raises QueueUnavailable when Redis does not answer."""

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = 20.0,
        max_attempts: int = 10,
        max_errors: int = 3,
        max_crashes: int = 2,
        backoff_s: float = 5.0,
    ) -> None:
        """
        lease_s: how long a job stays with an attempt that does not beat.
        max_attempts: a job that was begun this often, and whose worker died each time, fails with attempts-exhausted.
        max_errors: a job that `retry` was called for this often fails.
        max_crashes: a job that `crashed` was called for this often fails.
        backoff_s: the wait after the first such error; each further one is four times as long, up to ten minutes.
        """
        self.url = url
        self.lease_s = lease_s
        self._max_attempts = max_attempts
        self._max_errors = max_errors
        self._max_crashes = max_crashes
        self._backoff_ms = milliseconds(backoff_s)
        self._exhausted = Failure.of(AttemptsExhausted(f"{max_attempts} attempts")).model_dump_json()
        self._script = PatientScript(url)
        self._steal_from: float | None = None
        self._outage_seen = False

    def setup(self) -> None:
        """Make the stream. Calling it again is harmless."""
        self._call("setup")

    def claim(self) -> Lease | None:
        """The next job, for one lease: one whose holder fell silent, else the oldest in the queue.

        None when there is none, or it was one for a newer worker: while services are renewed, gateways may be ahead.
        """
        token = uuid4().hex
        fields = self._call("claim", token, milliseconds(self.lease_s), int(self._may_steal()), self._max_attempts, self._exhausted)
        if not fields:
            return None
        try:
            return Lease(job=decode_whole(fields), token=token)
        except ValidationError as error:
            self._leave(record_of(fields)["id"], token, error)
            return None

    def wait(self, timeout_s: float) -> None:
        """Sleep until a job that nobody has been given arrives, or for `timeout_s` (under 10 s)."""
        stream, last = self._call("tail")
        with self._errors():
            self._script.redis.xread({stream: last}, count=1, block=milliseconds(timeout_s))

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
        """The result is written under the lease's token, and is the one that counts from here on.

        False when the job ended otherwise meanwhile, or was deleted: then this result does not count, and is to be dropped.
        """
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
        return _state(self._call("postpone", lease.job.id, lease.token, milliseconds(deadline_s), failure.model_dump_json()))

    def retry(self, lease: Lease, failure: Failure) -> JobState | None:
        """Try the job again after a while, or fail it if this was its last try. Its new state; None when the lease was lost."""
        return self._try_again(lease, failure, count="errors", most=self._max_errors)

    def crashed(self, lease: Lease, failure: Failure) -> JobState | None:
        """The same when the video killed its decoder, or wore it out: that is the video's fault, and counted apart."""
        return self._try_again(lease, failure, count="crashes", most=self._max_crashes)

    def fail_stranded(self, failure: Failure, *, waited_s: float) -> int:
        """Fail the jobs accepted more than `waited_s` ago, provided that no worker at all held a job since; how many (at most 200)."""
        return int(self._call("fail_stranded", milliseconds(waited_s), failure.model_dump_json()))

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
        self._script.redis.close()

    def _leave(self, job_id: str, token: str, error: ValidationError) -> None:
        log.warning("a job for a newer worker", extra={"job_id": job_id, "reason": "; ".join(_place_of(each) for each in error.errors())})
        failure = Failure.of(InternalError("no worker knew what was asked for"))
        self._call("leave", job_id, token, milliseconds(_LEFT_FOR_S), milliseconds(_LEFT_AT_MOST_S), failure.model_dump_json())

    def _try_again(self, lease: Lease, failure: Failure, *, count: str, most: int) -> JobState | None:
        return _state(self._call("retry", lease.job.id, lease.token, count, self._backoff_ms, most, failure.model_dump_json()))

    def _may_steal(self) -> bool:
        """Whether a silent holder counts as dead.

        While Redis was away nobody could beat, so holders get one lease of time to be heard again. Without this, an outage
        longer than the lease would start every running job a second time.
        """
        if self._steal_from is None:
            with self._errors():
                uptime_s = max(0, self._script.redis.info("server")["uptime_in_seconds"])  # less than 0 where a clock was set back
            self._steal_from = time.monotonic() + (self.lease_s if self._outage_seen else max(0.0, self.lease_s - uptime_s))
        return time.monotonic() >= self._steal_from

    def _call(self, command: str, *args: str | int) -> Any:
        with self._errors():
            return self._script(command, *args)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with redis_errors():
                yield
        except QueueUnavailable:
            self._outage_seen, self._steal_from = True, None
            raise


def _place_of(error: ErrorDetails) -> str:
    """What is not understood, by its name; its value is the client's."""
    return f"{'.'.join(map(str, error['loc']))}: {error['type']}"


def _raise_refusal(verdict: str | None) -> None:
    match verdict:
        case "full":
            raise QueueFull
        case "quota":
            raise QuotaExceeded(quota="queued-analyses")
        case "reused":
            raise IdempotencyKeyReused


def _found(fields: Sequence[str]) -> Job:
    """The job, or the one word of why there is none."""
    if len(fields) == 1:
        raise _absence(fields[0])
    return decode(fields)


def _absence(why: str) -> JobNotFound:
    return Gone() if why == "gone" else JobNotFound()


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


def _state(text: str | None) -> JobState | None:
    return None if text is None else JobState(text)


def _version(text: str | None) -> int | None:
    return None if text is None else int(text)

"""Any sequence of calls, by any mixture of workers, against a model of a few lines: no illegal change, no second end."""

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import Final

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule, run_state_machine_as_test

from shared.errors import (
    DecodeCrashed,
    IdempotencyKeyReused,
    InferenceUnavailable,
    InternalError,
    JobNotFound,
    MediaCorrupt,
    NothingToRollBack,
    QueueFull,
    QuotaExceeded,
    StateConflict,
)
from shared.idempotency import Idempotency
from shared.jobs import FINAL_STATES, Failure, Job, JobState, Progress, Timings
from shared.queue import Beat, GatewayQueue, Lease, Limits, WorkerQueue
from shared.queue_upkeep import Restored, UpkeepQueue
from shared.videos import End

REMEMBERED = 20
"""Versions of an alias before the present one that the queue can go back to."""


MAX_ATTEMPTS: Final = 3
MAX_ERRORS: Final = 2
MAX_CRASHES: Final = 1
TENANTS: Final = ("ann", "bob", "cat")
LIMITS: Final = Limits(jobs=6, bytes=20, tenant_jobs=4)
LEASE_S: Final = 3600.0
"""Longer than any test: a lease runs out only when `fall_silent` says so."""

entries = itertools.count(1)
numbers = itertools.count(1)


@dataclass
class Expected:
    """What the model knows about one job."""

    tenant: str
    size: int
    accepted: Job
    """As it was submitted, which its folder would tell."""
    key: Idempotency | None = None
    given: int | None = None
    """Its place among those that workers have had, of which nobody else is before it in turn."""
    state: JobState = JobState.QUEUED
    attempts: int = 0
    errors: int = 0
    crashes: int = 0
    token: str = ""
    cancel_requested: bool = False
    silent: bool = False
    delayed: bool = False
    analysed: bool = False
    """Whether the attempt has shown a frame done."""

    @property
    def free(self) -> bool:
        return self.silent if self.state == JobState.RUNNING else self.state == JobState.QUEUED and self.given is not None

    def begin(self, token: str) -> None:
        self.state, self.token, self.silent, self.analysed = JobState.RUNNING, token, False, False
        self.attempts += 1

    def end(self, state: JobState) -> None:
        assert self.state not in FINAL_STATES
        self.state, self.delayed, self.given = state, False, None


class QueueMachine(RuleBasedStateMachine):
    """Two workers and a gateway on one Redis."""

    url: str
    leases: Bundle[tuple[WorkerQueue, Lease]] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.redis = redis.Redis.from_url(self.url, decode_responses=True)
        self.redis.flushall()
        self.workers = [
            WorkerQueue(
                self.url, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS, max_errors=MAX_ERRORS, max_crashes=MAX_CRASHES, backoff_s=LEASE_S
            )
            for _ in range(2)
        ]
        for worker in self.workers:
            worker._steal_from = 0.0  # the server has just started, but nobody was running anything before it did
        self.loop = asyncio.Runner()
        self.gateway = GatewayQueue(self.url, limits=LIMITS)
        self.upkeep = UpkeepQueue(self.url)
        self.jobs: dict[str, Expected] = {}
        self.waiting: dict[str, list[str]] = {tenant: [] for tenant in TENANTS}
        self.turns: list[str] = []
        self.untidied: set[str] = set()
        self.gone: set[str] = set()
        self.champions: list[int] = []

    def teardown(self) -> None:
        self.loop.run(self.gateway.close())
        self.loop.close()
        for queue in (*self.workers, self.upkeep):
            queue.close()
        self.redis.close()

    def held(self, lease: Lease) -> Expected | None:
        job = self.jobs.get(lease.job.id)
        return job if job and job.state == JobState.RUNNING and job.token == lease.token else None

    def ended_by(self, lease: Lease, state: JobState) -> bool:
        job = self.jobs.get(lease.job.id)
        return job is not None and (job.state, job.token) == (state, lease.token)

    # --- the gateway's calls -----------------------------------------------------------------------------------------

    @rule(tenant=st.sampled_from(TENANTS), size=st.integers(1, 6), key=st.none() | st.sampled_from("xyz"), changed=st.booleans())
    def submit(self, tenant: str, size: int, key: str | None, changed: bool) -> None:
        job = Job(id=f"an_{next(numbers):032x}", tenant=tenant, size_bytes=size, sha256="0" * 64, created_ms=time.time_ns() // 1_000_000)
        once = Idempotency(key=f"{ord(key) + ord(tenant[0]):064x}", fingerprint=f"{changed:064x}") if key else None
        earlier = next((job_id for job_id, known in self.jobs.items() if once and known.key and known.key.key == once.key), None)
        queued = [known for known in self.jobs.values() if known.state == JobState.QUEUED]
        if earlier and self.jobs[earlier].key != once:
            with pytest.raises(IdempotencyKeyReused):
                self.loop.run(self.gateway.submit(job, once))
        elif earlier:
            assert self.loop.run(self.gateway.submit(job, once)) == earlier
        elif len(queued) >= LIMITS.jobs or sum(known.size for known in queued) + size > LIMITS.bytes:
            self.is_refused(job, once, QueueFull)
        elif sum(known.tenant == tenant for known in queued) >= LIMITS.tenant_jobs:
            self.is_refused(job, once, QuotaExceeded)
        else:
            self.loop.run(self.gateway.require_room(tenant, size_bytes=size))
            assert [self.loop.run(self.gateway.submit(job, once)) for _ in range(2)] == [job.id, job.id]
            self.jobs[job.id] = Expected(tenant=tenant, size=size, accepted=job, key=once)
            self.waits(job.id)

    def is_refused(self, job: Job, once: Idempotency | None, error: type[Exception]) -> None:
        with pytest.raises(error):
            self.loop.run(self.gateway.require_room(job.tenant, size_bytes=job.size_bytes))
        with pytest.raises(error):
            self.loop.run(self.gateway.submit(job, once))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        expected = self.jobs[job_id]
        if expected.state in FINAL_STATES - {JobState.CANCELED}:
            with pytest.raises(StateConflict):
                self.loop.run(self.gateway.cancel(job_id, tenant=expected.tenant))
            return
        self.loop.run(self.gateway.cancel(job_id, tenant=expected.tenant))
        if expected.state == JobState.RUNNING:
            expected.cancel_requested = True
        elif expected.state == JobState.QUEUED:
            self.ends(job_id, JobState.CANCELED)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        self.loop.run(self.gateway.delete(job_id, tenant=self.jobs[job_id].tenant))
        assert self.upkeep.restore(End(job=self.jobs[job_id].accepted)) == Restored.DELETED
        self.forget(job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def somebody_else_asks(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        other = data.draw(st.sampled_from([tenant for tenant in TENANTS if tenant != self.jobs[job_id].tenant]))
        for ask in (self.gateway.get, self.gateway.cancel, self.gateway.delete):
            with pytest.raises(JobNotFound):
                self.loop.run(ask(job_id, tenant=other))

    # --- the workers' calls ------------------------------------------------------------------------------------------

    @rule(target=leases, worker=st.integers(0, 1))
    def claim(self, worker: int):
        for job_id in self.redis.zrangebyscore("mien:delayed", 0, 0):
            self.jobs[job_id].delayed = False
            self.waits(job_id)
        queue = self.workers[worker]
        lease = queue.claim()
        while job_id := self.next_free():
            job = self.jobs[job_id]
            if job.cancel_requested:
                self.ends(job_id, JobState.CANCELED)
            elif job.attempts >= MAX_ATTEMPTS:
                self.ends(job_id, JobState.FAILED)
            else:
                assert lease is not None
                assert lease.job.id == job_id
                job.begin(lease.token)
                assert lease.attempt == job.attempts
                return multiple((queue, lease))
        assert lease is None
        return multiple()

    def next_free(self) -> str | None:
        """Those that workers have had, the longest ago first; then the tenants by turns."""
        had = [(job.given, job_id) for job_id, job in self.jobs.items() if job.free]
        if had:
            return min(had)[1]
        if not self.turns:
            return None
        tenant = self.turns.pop(0)
        job_id = self.waiting[tenant].pop(0)
        if self.waiting[tenant]:
            self.turns.append(tenant)
        self.jobs[job_id].given = next(entries)
        return job_id

    @rule(held=leases)
    def beat(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        assert queue.beat(lease) == self.answer(lease)
        if job := self.held(lease):
            job.silent = False

    @rule(held=leases, percent=st.integers(0, 100))
    def report(self, held: tuple[WorkerQueue, Lease], percent: int) -> None:
        queue, lease = held
        assert queue.report(lease, Progress(frames_done=percent, percent=percent)) == self.answer(lease)
        if job := self.held(lease):
            job.analysed = percent > 0

    @rule(held=leases)
    def succeed(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        job = self.jobs.get(lease.job.id)
        first = job is not None and job.state not in FINAL_STATES
        assert queue.succeed(lease, Timings()) == (first or self.ended_by(lease, JobState.SUCCEEDED))
        if job and first:
            self.ends(lease.job.id, JobState.SUCCEEDED)
            job.token = lease.token
        elif job and job.token != lease.token:
            self.untidied.add(lease.job.id)
        if job and job.state == JobState.SUCCEEDED:
            assert self.loop.run(self.gateway.get_with_result(lease.job.id))[1] == job.token

    @rule(held=leases)
    def fail(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        job = self.held(lease)
        assert queue.fail(lease, Failure.of(MediaCorrupt())) == (job is not None or self.ended_by(lease, JobState.FAILED))
        if job:
            self.ends(lease.job.id, JobState.FAILED)

    @rule(held=leases)
    def canceled(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        job = self.held(lease)
        assert queue.canceled(lease) == (job is not None or self.ended_by(lease, JobState.CANCELED))
        if job:
            self.ends(lease.job.id, JobState.CANCELED)

    @rule(held=leases, postponed=st.booleans())
    def hand_back(self, held: tuple[WorkerQueue, Lease], postponed: bool) -> None:
        queue, lease = held
        job = self.held(lease)
        if postponed:
            done = queue.postpone(lease, Failure.of(InferenceUnavailable()), deadline_s=LEASE_S) is not None
        else:
            done = queue.release(lease)
        assert done == (job is not None)
        if job:
            job.attempts -= 0 if postponed and job.analysed else 1
            self.comes_back(lease.job.id)

    @rule(held=leases, crashed=st.booleans())
    def retry(self, held: tuple[WorkerQueue, Lease], crashed: bool) -> None:
        queue, lease = held
        job = self.held(lease)
        state = queue.crashed(lease, Failure.of(DecodeCrashed())) if crashed else queue.retry(lease, Failure.of(InternalError()))
        if job:
            job.crashes += crashed
            job.errors += not crashed
            if job.crashes >= MAX_CRASHES if crashed else job.errors >= MAX_ERRORS:
                self.ends(lease.job.id, JobState.FAILED)
            else:
                self.comes_back(lease.job.id)
                job.delayed = job.state == JobState.QUEUED
                job.given = None
        assert state == (job.state if job else None)

    # --- upkeep ------------------------------------------------------------------------------------------------------

    @rule()
    def tidy(self) -> None:
        ended = self.upkeep.ended(ago_s=0)
        assert {one.end.job.id for one in ended} == self.untidied
        for one in ended:
            self.upkeep.tidied(one)
        assert self.upkeep.ended(ago_s=0) == []
        self.untidied.clear()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), told=st.sampled_from([JobState.QUEUED, JobState.SUCCEEDED]), lost=st.booleans())
    def restore(self, data: st.DataObject, told: JobState, lost: bool) -> None:
        """A folder tells of an accepted job, or of one that has succeeded; Redis may have lost its record."""
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        job = self.jobs[job_id]
        if lost:
            self.loop.run(self.gateway.delete(job_id))
            self.redis.delete(f"mien:deleted:{job_id}")
            self.forget(job_id)
        done = {"state": told, "ended_ms": time.time_ns() // 1_000_000, "progress": Progress(percent=100)}
        end = End(job=job.accepted.model_copy(update=done if told in FINAL_STATES else {}), attempt="f" * 32)
        unknown = lost or (told in FINAL_STATES and job.state not in FINAL_STATES)
        assert self.upkeep.restore(end, job.key) == (Restored.RESTORED if unknown else Restored.KNOWN)
        assert self.upkeep.restore(end, job.key) == Restored.KNOWN
        if unknown:
            if job_id in self.jobs:
                self.forget(job_id)
            self.gone.discard(job_id)
            self.jobs[job_id] = Expected(tenant=job.tenant, size=job.size, accepted=job.accepted, key=job.key, token="f" * 32)
            self.waits(job_id)
            if told in FINAL_STATES:
                self.ends(job_id, told)

    # --- releases ----------------------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, 1), version=st.integers(1, 4))
    def promote(self, worker: int, version: int) -> None:
        self.workers[worker].promote("champion", version)
        if self.champions[-1:] != [version]:
            self.champions.append(version)
            del self.champions[: -1 - REMEMBERED]

    @rule(worker=st.integers(0, 1), to=st.none() | st.integers(1, 4))
    def roll_back(self, worker: int, to: int | None) -> None:
        queue = self.workers[worker]
        current, earlier = self.champions[-1:], self.champions[-2:-1]
        if current == [to]:
            assert queue.rollback("champion", to=to) == to
        elif earlier and to in (None, *earlier):
            assert queue.rollback("champion", to=to) == earlier[0]
            self.champions.pop()
        else:
            with pytest.raises(NothingToRollBack):
                queue.rollback("champion", to=to)

    # --- time --------------------------------------------------------------------------------------------------------

    @rule(held=leases)
    def fall_silent(self, held: tuple[WorkerQueue, Lease]) -> None:
        """The worker does not beat for two leases."""
        _, lease = held
        if job := self.held(lease):
            entry = self.redis.hget(f"mien:job:{lease.job.id}", "entry")
            self.redis.xclaim("mien:leases", "workers", "worker", 0, [entry], idle=round(2000 * LEASE_S), justid=True)
            job.silent = True

    @precondition(lambda self: any(job.delayed for job in self.jobs.values()))
    @rule()
    def retries_are_due(self) -> None:
        for job_id, job in self.jobs.items():
            if job.delayed:
                self.redis.zadd("mien:delayed", {job_id: 0})

    @precondition(lambda self: any(job.state in FINAL_STATES for job in self.jobs.values()))
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(job_id for job_id, job in self.jobs.items() if job.state in FINAL_STATES)))
        created_ms = self.redis.hget(f"mien:job:{job_id}", "created_ms")
        self.redis.zadd("mien:expires", {f"{created_ms} {job_id}": 0})
        for ask in (self.gateway.get, self.gateway.cancel):
            with pytest.raises(JobNotFound):
                self.loop.run(ask(job_id))
        self.loop.run(self.gateway.list())  # which tidies up, as a claim does
        self.forget(job_id)

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def records_are_as_expected(self) -> None:
        shown = self.loop.run(self.gateway.list(limit=1000)).jobs
        assert [job.id for job in shown] == sorted(
            self.jobs, key=lambda job_id: (self.jobs[job_id].accepted.created_ms, job_id), reverse=True
        )
        for job in shown:
            expected = self.jobs[job.id]
            assert job.tenant == expected.tenant
            assert (job.state, job.attempts, job.cancel_requested) == (expected.state, expected.attempts, expected.cancel_requested)
            assert (job.ended_ms is not None) == (job.state in FINAL_STATES)
            assert (job.failure is not None) == (job.state == JobState.FAILED)
            assert (job.progress.percent == 100) == (job.state == JobState.SUCCEEDED)

    @invariant()
    def counts_are_as_expected(self) -> None:
        states = [job.state for job in self.jobs.values()]
        delayed = sum(job.delayed for job in self.jobs.values())
        depth = self.loop.run(self.gateway.depth())
        assert (depth.queued, depth.running, depth.delayed) == (
            states.count(JobState.QUEUED) - delayed,
            states.count(JobState.RUNNING),
            delayed,
        )
        assert self.redis.xlen("mien:leases") == sum(job.given is not None for job in self.jobs.values())
        assert self.redis.zrange("mien:turns", 0, -1) == self.turns
        for state in JobState:
            assert self.redis.zcard(f"mien:jobs:{state}") == states.count(state)
        queued = [job.size for job in self.jobs.values() if job.state == JobState.QUEUED]
        assert int(self.redis.get("mien:queued_bytes") or 0) == sum(queued)

    @invariant()
    def each_tenant_has_its_own(self) -> None:
        for tenant in TENANTS:
            own = {job_id for job_id, job in self.jobs.items() if job.tenant == tenant}
            assert {job.id for job in self.loop.run(self.gateway.list(tenant=tenant, limit=1000)).jobs} == own
            assert self.redis.zrange(f"mien:waiting:{tenant}", 0, -1) == self.waiting[tenant]
            for state in JobState:
                assert self.redis.zcard(f"mien:jobs:{tenant}:{state}") == sum(self.jobs[job_id].state == state for job_id in own)

    @invariant()
    def the_champion_is_the_last_that_was_not_rolled_back(self) -> None:
        current = self.champions[-1] if self.champions else None
        assert self.loop.run(self.gateway.alias("champion")) == current
        assert list(self.workers[0].alias_history("champion")) == self.champions[-2::-1]

    @invariant()
    def the_gone_are_gone(self) -> None:
        assert not self.gone or not self.redis.exists(*(f"mien:job:{job_id}" for job_id in self.gone))

    def answer(self, lease: Lease) -> Beat:
        job = self.held(lease)
        if job is None:
            return Beat.LOST
        return Beat.CANCEL if job.cancel_requested else Beat.HELD

    def waits(self, job_id: str) -> None:
        tenant = self.jobs[job_id].tenant
        self.waiting[tenant].append(job_id)
        if tenant not in self.turns:
            self.turns.append(tenant)

    def waits_no_more(self, job_id: str) -> None:
        tenant = self.jobs[job_id].tenant
        if job_id in self.waiting[tenant]:
            self.waiting[tenant].remove(job_id)
        if not self.waiting[tenant] and tenant in self.turns:
            self.turns.remove(tenant)

    def ends(self, job_id: str, state: JobState) -> None:
        self.waits_no_more(job_id)
        self.jobs[job_id].end(state)
        self.untidied.add(job_id)

    def comes_back(self, job_id: str) -> None:
        if self.jobs[job_id].cancel_requested:
            self.ends(job_id, JobState.CANCELED)
        else:
            self.jobs[job_id].state, self.jobs[job_id].token = JobState.QUEUED, ""

    def forget(self, job_id: str) -> None:
        self.waits_no_more(job_id)
        self.untidied.discard(job_id)
        del self.jobs[job_id]
        self.gone.add(job_id)


def test_every_sequence_of_calls_keeps_the_promises(hasty_redis_url: str) -> None:
    machine = type("Machine", (QueueMachine,), {"url": hasty_redis_url})
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=40, deadline=None, database=None))

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

from shared.errors import InferenceUnavailable, InternalError, JobNotFound, MediaCorrupt, NothingToRollBack, StateConflict
from shared.jobs import FINAL_STATES, Failure, Job, JobState, Progress, Timings
from shared.queue import Beat, GatewayQueue, Lease, WorkerQueue

REMEMBERED = 20
"""Versions of an alias before the present one that the queue can go back to."""


MAX_ATTEMPTS: Final = 3
MAX_ERRORS: Final = 2
LEASE_S: Final = 3600.0
"""Longer than any test: a lease runs out only when `fall_silent` says so."""

entries = itertools.count(1)
numbers = itertools.count(1)


@dataclass
class Expected:
    """What the model knows about one job."""

    entry: int
    """Its place in the queue."""
    given: bool = False
    """Whether some worker has had it from that place."""
    state: JobState = JobState.QUEUED
    attempts: int = 0
    errors: int = 0
    token: str = ""
    cancel_requested: bool = False
    silent: bool = False
    delayed: bool = False
    analysed: bool = False
    """Whether the attempt has shown a frame done."""

    @property
    def free(self) -> bool:
        return self.silent if self.state == JobState.RUNNING else self.state == JobState.QUEUED and not self.delayed

    def begin(self, token: str) -> None:
        self.state, self.token, self.given, self.silent, self.analysed = JobState.RUNNING, token, True, False, False
        self.attempts += 1

    def end(self, state: JobState) -> None:
        assert self.state not in FINAL_STATES
        self.state, self.delayed = state, False

    def come_back(self) -> None:
        if self.cancel_requested:
            self.end(JobState.CANCELED)
        else:
            self.state, self.token = JobState.QUEUED, ""


class QueueMachine(RuleBasedStateMachine):
    """Two workers and a gateway on one Redis."""

    url: str
    leases: Bundle[tuple[WorkerQueue, Lease]] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.redis = redis.Redis.from_url(self.url, decode_responses=True)
        self.redis.flushall()
        self.workers = [
            WorkerQueue(self.url, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS, max_errors=MAX_ERRORS, backoff_s=LEASE_S) for _ in range(2)
        ]
        for worker in self.workers:
            worker._steal_from = 0.0  # the server has just started, but nobody was running anything before it did
        self.loop = asyncio.Runner()
        self.gateway = GatewayQueue(self.url)
        self.jobs: dict[str, Expected] = {}
        self.gone: set[str] = set()
        self.champions: list[int] = []

    def teardown(self) -> None:
        self.loop.run(self.gateway.close())
        self.loop.close()
        for worker in self.workers:
            worker.close()
        self.redis.close()

    def held(self, lease: Lease) -> Expected | None:
        job = self.jobs.get(lease.job.id)
        return job if job and job.state == JobState.RUNNING and job.token == lease.token else None

    def ended_by(self, lease: Lease, state: JobState) -> bool:
        job = self.jobs.get(lease.job.id)
        return job is not None and (job.state, job.token) == (state, lease.token)

    # --- the gateway's calls -----------------------------------------------------------------------------------------

    @rule()
    def submit(self) -> None:
        job = Job(id=f"an_{next(numbers):032x}", size_bytes=1, sha256="0" * 64, created_ms=time.time_ns() // 1_000_000)
        assert self.loop.run(self.gateway.submit(job))
        assert not self.loop.run(self.gateway.submit(job))
        self.jobs[job.id] = Expected(entry=next(entries))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        expected = self.jobs[job_id]
        if expected.state in FINAL_STATES - {JobState.CANCELED}:
            with pytest.raises(StateConflict):
                self.loop.run(self.gateway.cancel(job_id))
            return
        self.loop.run(self.gateway.cancel(job_id))
        if expected.state == JobState.RUNNING:
            expected.cancel_requested = True
        elif expected.state == JobState.QUEUED:
            expected.end(JobState.CANCELED)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        self.loop.run(self.gateway.delete(job_id))
        self.forget(job_id)

    # --- the workers' calls ------------------------------------------------------------------------------------------

    @rule(target=leases, worker=st.integers(0, 1))
    def claim(self, worker: int):
        for job in (self.jobs[job_id] for job_id in self.redis.zrangebyscore("mien:delayed", 0, 0)):
            job.entry, job.given, job.delayed = next(entries), False, False
        queue = self.workers[worker]
        lease = queue.claim()
        for job_id, job in sorted(self.jobs.items(), key=lambda item: (not item[1].given, item[1].entry)):
            if not job.free:
                continue
            if job.cancel_requested:
                job.end(JobState.CANCELED)
            elif job.attempts >= MAX_ATTEMPTS:
                job.end(JobState.FAILED)
            else:
                assert lease is not None
                assert lease.job.id == job_id
                job.begin(lease.token)
                assert lease.attempt == job.attempts
                return multiple((queue, lease))
        assert lease is None
        return multiple()

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
            job.end(JobState.SUCCEEDED)
            job.token = lease.token

    @rule(held=leases)
    def fail(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        job = self.held(lease)
        assert queue.fail(lease, Failure.of(MediaCorrupt())) == (job is not None or self.ended_by(lease, JobState.FAILED))
        if job:
            job.end(JobState.FAILED)

    @rule(held=leases)
    def canceled(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        job = self.held(lease)
        assert queue.canceled(lease) == (job is not None or self.ended_by(lease, JobState.CANCELED))
        if job:
            job.end(JobState.CANCELED)

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
            job.come_back()

    @rule(held=leases)
    def retry(self, held: tuple[WorkerQueue, Lease]) -> None:
        queue, lease = held
        job = self.held(lease)
        state = queue.retry(lease, Failure.of(InternalError()))
        if job:
            job.errors += 1
            if job.errors >= MAX_ERRORS:
                job.end(JobState.FAILED)
            else:
                job.come_back()
                job.delayed = job.state == JobState.QUEUED
        assert state == (job.state if job else None)

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
            self.redis.xclaim("mien:queue", "workers", "worker", 0, [entry], idle=round(2000 * LEASE_S), justid=True)
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
        assert [job.id for job in shown] == sorted(self.jobs, reverse=True)
        for job in shown:
            expected = self.jobs[job.id]
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
        assert self.redis.xlen("mien:queue") == depth.queued + depth.running
        for state in JobState:
            assert self.redis.zcard(f"mien:jobs:{state}") == states.count(state)

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

    def forget(self, job_id: str) -> None:
        del self.jobs[job_id]
        self.gone.add(job_id)


def test_every_sequence_of_calls_keeps_the_promises(redis_url: str) -> None:
    machine = type("Machine", (QueueMachine,), {"url": redis_url})
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=40, deadline=None, database=None))

"""The queue against a real Redis: what each call promises, one promise per test."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from shared.errors import (
    DecodeCrashed,
    Gone,
    InferenceUnavailable,
    InternalError,
    JobNotFound,
    MediaCorrupt,
    NothingToRollBack,
    QueueUnavailable,
    StateConflict,
)
from shared.jobs import Failure, Job, JobState, Progress, Stage, Timings
from shared.queue import Beat, GatewayQueue, JobPage, WorkerQueue
from shared.queue_upkeep import UpkeepQueue
from tests.shared.conftest import LEASE_S, Gateway, claimed, new_job

DAY_MS = 24 * 3600 * 1000
CORRUPT = Failure.of(MediaCorrupt())
CRASHED = Failure.of(DecodeCrashed())
BROKEN = Failure.of(InternalError())
UNAVAILABLE = Failure.of(InferenceUnavailable())


def left(raw: redis.Redis) -> set[str]:
    """All keys but those that are there for ever, and tell of no job."""
    return set(raw.keys("mien:*")) - {"mien:leases", "mien:worked", "mien:number", "mien:arrivals"}


# --- submitting and claiming -----------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_was_submitted(gateway: Gateway) -> None:
    job = new_job(sample_fps=12.5)
    assert gateway.submit(job)
    assert gateway.get(job.id) == job


def test_submitting_twice_makes_one_job(gateway: Gateway, worker: WorkerQueue) -> None:
    job = new_job()
    assert gateway.submit(job) == gateway.submit(job) == job.id
    lease = claimed(worker)
    assert worker.claim() is None
    assert worker.succeed(lease, Timings())
    assert gateway.submit(job) == job.id
    assert gateway.get(job.id).state == JobState.SUCCEEDED


def test_jobs_are_claimed_in_the_order_of_submission(gateway: Gateway, worker: WorkerQueue) -> None:
    jobs = [new_job() for _ in range(5)]
    for job in jobs:
        gateway.submit(job)
    assert [claimed(worker).job.id for _ in jobs] == [job.id for job in jobs]
    assert worker.claim() is None


def test_an_attempt_is_counted_before_it_runs(gateway: Gateway, worker: WorkerQueue) -> None:
    job = new_job()
    gateway.submit(job)
    lease = claimed(worker)
    record = gateway.get(job.id)
    assert (record.state, record.attempts, lease.attempt) == (JobState.RUNNING, 1, 1)
    assert record == lease.job
    assert record.started_ms is not None
    assert abs(record.started_ms - time.time() * 1000) < 2000


def test_an_unknown_job_is_not_found(gateway: Gateway) -> None:
    for call in (gateway.get, gateway.cancel, gateway.delete):
        with pytest.raises(JobNotFound):
            call("an_" + "0" * 32)


def test_waiting_ends_as_a_job_arrives(gateway: Gateway, worker: WorkerQueue) -> None:
    began = time.monotonic()
    worker.wait(0.3)
    assert 0.25 < time.monotonic() - began < 2
    gateway.submit(new_job())
    began = time.monotonic()
    worker.wait(5)
    assert time.monotonic() - began < 1
    assert worker.claim() is not None


def test_waiting_does_not_end_at_once_because_another_worker_is_busy(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue) -> None:
    gateway.submit(new_job())
    claimed(other)
    began = time.monotonic()
    worker.wait(0.3)
    assert time.monotonic() - began > 0.25


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_job_succeeds_with_everything_there_is_to_say(gateway: Gateway, worker: WorkerQueue) -> None:
    job = new_job()
    gateway.submit(job)
    lease = worker.pin(claimed(worker), 7)
    assert worker.report(lease, Progress(stage=Stage.ANALYSING, frames_done=16, frames_total=32, percent=50)) == Beat.HELD
    assert gateway.get(job.id).progress == Progress(stage=Stage.ANALYSING, frames_done=16, frames_total=32, percent=50)
    timings = Timings(queue=1, decode=2, detect=3, infer=4, total=10)
    assert worker.succeed(lease, timings, ("partial-decode",))
    record = gateway.get(job.id)
    assert (record.state, record.release, record.timings, record.warnings) == (JobState.SUCCEEDED, 7, timings, ("partial-decode",))
    assert record.progress == Progress(stage=Stage.DONE, frames_done=16, frames_total=32, percent=100)
    assert record.ended_ms is not None
    assert record.started_ms is not None
    assert record.ended_ms >= record.started_ms


def test_a_hundred_percent_is_kept_for_the_end(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    worker.report(lease, Progress(stage=Stage.CLASSIFYING, frames_done=32, percent=100))
    assert gateway.get(lease.job.id).progress.percent == 99


def test_a_job_fails_with_its_failure(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    assert worker.fail(lease, CORRUPT)
    record = gateway.get(lease.job.id)
    assert (record.state, record.failure) == (JobState.FAILED, CORRUPT)
    assert worker.claim() is None


def test_a_call_whose_reply_was_lost_may_be_repeated(gateway: Gateway, worker: WorkerQueue) -> None:
    for finish in (lambda lease: worker.succeed(lease, Timings()), lambda lease: worker.fail(lease, CORRUPT), worker.canceled):
        gateway.submit(new_job())
        lease = claimed(worker)
        assert finish(lease)
        assert finish(lease)


def test_a_job_that_was_handed_back_is_free_at_once_and_keeps_its_place(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue) -> None:
    first, second = new_job(), new_job()
    gateway.submit(first)
    gateway.submit(second)
    lease = worker.pin(claimed(worker), 1)
    worker.report(lease, Progress(stage=Stage.ANALYSING, percent=40))
    assert worker.release(lease)
    record = gateway.get(first.id)
    assert (record.state, record.attempts, record.release, record.progress) == (JobState.QUEUED, 0, None, Progress())
    again = claimed(other)
    assert (again.job.id, again.attempt) == (first.id, 1)
    assert not worker.release(lease)


def test_a_retry_waits_and_the_last_one_fails(gateway: Gateway, new_worker: Callable[..., WorkerQueue]) -> None:
    worker = new_worker(max_errors=2, backoff_s=0.2)
    gateway.submit(new_job())
    first = claimed(worker)
    assert worker.retry(first, BROKEN) == JobState.QUEUED
    assert worker.claim() is None
    assert gateway.depth().model_dump(exclude={"oldest_s"}) == {"queued": 0, "running": 0, "delayed": 1}
    time.sleep(0.25)
    second = claimed(worker)
    assert second.attempt == 2
    assert worker.retry(first, BROKEN) is None
    assert worker.retry(second, BROKEN) == JobState.FAILED
    assert gateway.get(first.job.id).failure == BROKEN


def test_a_video_that_kills_its_decoder_is_given_up_after_two_tries_whatever_else_went_wrong(
    gateway: Gateway, new_worker: Callable[..., WorkerQueue]
) -> None:
    worker = new_worker(max_errors=3, backoff_s=0.01)
    gateway.submit(new_job())
    outcomes = []
    for report in (worker.retry, worker.crashed, worker.retry, worker.crashed):
        outcomes.append(report(claimed(worker), CRASHED if report == worker.crashed else BROKEN))
        time.sleep(0.1)
    assert outcomes == [JobState.QUEUED, JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert gateway.list().jobs[0].failure == CRASHED
    assert worker.claim() is None


def test_the_wait_before_a_retry_grows_fourfold_up_to_ten_minutes(
    gateway: Gateway, new_worker: Callable[..., WorkerQueue], raw: redis.Redis
) -> None:
    worker = new_worker(max_errors=9, max_attempts=9, backoff_s=5.0)
    gateway.submit(new_job())
    waits = []
    for _ in range(6):
        lease = claimed(worker)
        worker.retry(lease, BROKEN)
        waits.append((raw.zscore("mien:delayed", lease.job.id) or 0) / 1000 - time.time())
        raw.zadd("mien:delayed", {lease.job.id: 0})
    assert waits == pytest.approx([5, 20, 80, 320, 600, 600], abs=0.5)


# --- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_stolen_only_once_it_has_run_out(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    for _ in range(4):
        time.sleep(LEASE_S / 2)
        assert worker.beat(lease) == Beat.HELD
        assert other.claim() is None
    time.sleep(LEASE_S * 1.2)
    stolen = claimed(other)
    assert (stolen.job.id, stolen.attempt) == (lease.job.id, 2)
    assert worker.beat(lease) == Beat.LOST


def test_who_lost_the_lease_changes_nothing(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue) -> None:
    gateway.submit(new_job())
    lost = claimed(worker)
    time.sleep(LEASE_S * 1.2)
    held = other.pin(claimed(other), 2)
    before = gateway.get(lost.job.id)
    worker.pin(lost, 1)
    assert worker.report(lost, Progress(stage=Stage.ANALYSING, percent=90)) == Beat.LOST
    assert not worker.release(lost)
    assert not worker.fail(lost, CORRUPT)
    assert not worker.canceled(lost)
    assert worker.retry(lost, BROKEN) is None
    assert worker.postpone(lost, UNAVAILABLE, deadline_s=0) is None
    assert gateway.get(lost.job.id) == before
    assert other.beat(held) == Beat.HELD


def test_the_first_result_wins(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue) -> None:
    gateway.submit(new_job())
    lost = worker.pin(claimed(worker), 1)
    time.sleep(LEASE_S * 1.2)
    held = other.pin(claimed(other), 2)
    assert worker.succeed(lost, Timings(total=1))
    assert other.beat(held) == Beat.LOST
    assert not other.succeed(held, Timings(total=2))
    record = gateway.get(lost.job.id)
    assert (record.release, record.timings) == (1, Timings(total=1))


def test_a_job_that_takes_every_worker_with_it_fails(gateway: Gateway, new_worker: Callable[..., WorkerQueue]) -> None:
    worker = new_worker(max_attempts=2, lease_s=0.05)
    gateway.submit(new_job())
    job_id = claimed(worker).job.id
    time.sleep(0.1)
    assert claimed(worker).attempt == 2
    time.sleep(0.1)
    assert worker.claim() is None
    record = gateway.get(job_id)
    assert (record.state, record.attempts) == (JobState.FAILED, 2)
    assert record.failure is not None
    assert (record.failure.code, record.failure.retryable) == ("attempts-exhausted", True)


def test_a_stale_lease_is_found_behind_many_live_ones(
    gateway: Gateway, worker: WorkerQueue, new_worker: Callable[..., WorkerQueue]
) -> None:
    for _ in range(30):
        gateway.submit(new_job())
    leases = [claimed(worker) for _ in range(30)]
    time.sleep(LEASE_S * 1.2)
    for lease in leases[:-1]:
        worker.beat(lease)
    stolen = claimed(new_worker())
    assert stolen.job.id == leases[-1].job.id


@pytest.mark.parametrize("hours", [-1, 1])
def test_no_workers_clock_moves_a_lease(
    gateway: Gateway, new_worker: Callable[..., WorkerQueue], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Leases, waits and ends are on Redis's clock: a worker whose wall clock jumps holds, loses and steals as any other."""
    worker, other = (new_worker(lease_s=1.0, backoff_s=0.4) for _ in range(2))
    gateway.submit(new_job())
    gateway.submit(retried := new_job())
    lease, second = claimed(worker), claimed(worker)
    true_time, true_time_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: true_time() + 3600 * hours)
    monkeypatch.setattr(time, "time_ns", lambda: true_time_ns() + 3600 * hours * 10**9)
    assert worker.retry(second, BROKEN) == JobState.QUEUED
    assert other.claim() is None
    for _ in range(3):
        assert worker.beat(lease) == Beat.HELD
        time.sleep(0.2)
    assert claimed(other).job.id == retried.id
    assert other.claim() is None
    time.sleep(1.2)
    assert claimed(other).job.id == lease.job.id
    assert worker.beat(lease) == Beat.LOST
    assert worker.succeed(lease, Timings())
    ended_ms = gateway.get(lease.job.id).ended_ms
    assert ended_ms is not None
    assert abs(ended_ms / 1000 - true_time()) < 60


# --- canceling, deleting, expiring -----------------------------------------------------------------------------------


def test_a_queued_job_is_canceled_at_once(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(job := new_job())
    canceled = gateway.cancel(job.id)
    assert canceled.state == JobState.CANCELED
    assert worker.claim() is None
    assert gateway.depth().queued == 0
    assert gateway.cancel(job.id) == canceled, "whose reply was lost may ask again"


def test_a_job_that_was_handed_back_can_be_canceled(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(job := new_job())
    worker.release(claimed(worker))
    assert gateway.cancel(job.id).state == JobState.CANCELED
    assert worker.claim() is None


def test_a_delayed_job_can_be_canceled(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(job := new_job())
    worker.retry(claimed(worker), BROKEN)
    assert gateway.cancel(job.id).state == JobState.CANCELED
    time.sleep(0.1)
    assert worker.claim() is None


def test_a_running_job_is_asked_to_stop(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    asked = gateway.cancel(lease.job.id)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    assert gateway.cancel(lease.job.id) == asked
    assert worker.beat(lease) == Beat.CANCEL
    assert worker.report(lease, Progress()) == Beat.CANCEL
    assert worker.canceled(lease)
    assert gateway.get(lease.job.id).state == JobState.CANCELED


@pytest.mark.parametrize("give_up", ["release", "retry", "postpone", "silence"])
def test_a_job_that_was_asked_to_stop_is_not_begun_again(gateway: Gateway, worker: WorkerQueue, give_up: str) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    gateway.cancel(lease.job.id)
    if give_up == "release":
        worker.release(lease)
    elif give_up == "retry":
        worker.retry(lease, BROKEN)
    elif give_up == "postpone":
        worker.postpone(lease, UNAVAILABLE, deadline_s=60)
    else:
        time.sleep(LEASE_S * 1.2)
    assert worker.claim() is None
    assert gateway.get(lease.job.id).state == JobState.CANCELED


def test_a_job_that_has_ended_cannot_be_canceled(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    worker.succeed(lease, Timings())
    with pytest.raises(StateConflict):
        gateway.cancel(lease.job.id)
    assert gateway.get(lease.job.id).state == JobState.SUCCEEDED


def test_deleting_a_running_job_stops_it_and_refuses_its_result(gateway: Gateway, worker: WorkerQueue, raw: redis.Redis) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    gateway.delete(lease.job.id)
    assert worker.report(lease, Progress()) == Beat.LOST
    assert not worker.succeed(lease, Timings())
    with pytest.raises(JobNotFound):
        gateway.get(lease.job.id)
    assert gateway.list() == JobPage(jobs=(), next_cursor=None)
    assert raw.xlen("mien:leases") == 0
    assert left(raw) == {f"mien:deleted:{lease.job.id}", f"mien:gone:{lease.job.id}"}
    assert 0 < raw.pttl(f"mien:deleted:{lease.job.id}") <= 3600 * 1000


def test_what_is_gone_is_remembered_for_a_week_by_its_tenant_alone(gateway: Gateway, raw: redis.Redis) -> None:
    gateway.submit(job := new_job(tenant="ours"))
    gateway.delete(job.id, tenant="ours")
    for call in (gateway.get, gateway.cancel, gateway.delete, gateway.get_with_result):
        for tenant in ("ours", None):
            with pytest.raises(Gone):
                call(job.id, tenant=tenant)
        with pytest.raises(JobNotFound) as theirs:
            call(job.id, tenant="theirs")
        assert theirs.type is JobNotFound
    assert raw.get(f"mien:gone:{job.id}") == "ours", "and nothing else about it is kept"
    assert raw.pttl(f"mien:gone:{job.id}") == pytest.approx(7 * DAY_MS, abs=5000)


def test_the_oldest_job_that_waits_has_an_age(gateway: Gateway, worker: WorkerQueue, raw: redis.Redis) -> None:
    assert gateway.depth().oldest_s == 0
    gateway.submit(oldest := new_job())
    gateway.submit(new_job())
    raw.hincrby(f"mien:job:{oldest.id}", "accepted_ms", -60_000)
    assert gateway.depth().oldest_s == pytest.approx(60, abs=5)
    claimed(worker)
    assert gateway.depth().oldest_s < 5


def test_a_job_that_has_ended_is_forgotten_after_seven_days(gateway: Gateway, worker: WorkerQueue, raw: redis.Redis) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    worker.succeed(lease, Timings())
    place = raw.zrange("mien:jobs:all", 0, -1)[0]
    assert (raw.zscore("mien:expires", place) or 0) / 1000 - time.time() == pytest.approx(7 * DAY_MS / 1000, abs=5)
    raw.zadd("mien:expires", {place: 0})
    with pytest.raises(Gone):
        gateway.get(lease.job.id)
    assert gateway.list() == JobPage(jobs=(), next_cursor=None)
    assert left(raw) == {f"mien:gone:{lease.job.id}"}
    with pytest.raises(Gone):
        gateway.get(lease.job.id)


@pytest.mark.usefixtures("hasty_redis_url")
def test_many_that_expire_at_once_are_unknown_at_once_and_hide_nobody(gateway: Gateway, upkeep: UpkeepQueue, raw: redis.Redis) -> None:
    gateway.submit(kept := new_job(created_ms=1))
    expired = [new_job(created_ms=2) for _ in range(250)]
    asyncio.run(end_all(gateway, expired))  # one by one, since only so many may wait
    raw.zadd("mien:expires", dict.fromkeys(raw.zrange("mien:expires", 0, -1), 0))
    assert gateway.list(limit=20) == JobPage(jobs=(kept,), next_cursor=None)
    oldest, newest = raw.zrange("mien:expires", 0, 0)[0], raw.zrange("mien:expires", -1, -1)[0]
    assert oldest < newest, "some are still to be tidied up"
    for place in (oldest, newest):
        for call in (gateway.get, gateway.cancel):
            with pytest.raises(JobNotFound):
                call(place.split()[1])
    for _ in range(3):
        upkeep.ended(ago_s=60)
    assert raw.keys("mien:job:*") == [f"mien:job:{kept.id}"]
    assert raw.zcard("mien:expires") == raw.zcard("mien:ended") == 0


async def end_all(gateway: Gateway, jobs: list[Job]) -> None:
    queue = GatewayQueue(gateway.url)
    for job in jobs:
        await queue.submit(job)
        await queue.cancel(job.id)
    await queue.close()


# --- listing ---------------------------------------------------------------------------------------------------------


def test_pages_are_stable_while_jobs_arrive(gateway: Gateway) -> None:
    jobs = [new_job(created_ms=1_800_000_000_000 + number // 3) for number in range(10)]
    for job in jobs:
        gateway.submit(job)
    seen, cursor = [], None
    while True:
        page = gateway.list(limit=3, cursor=cursor)
        seen += [job.id for job in page.jobs]
        gateway.submit(new_job(created_ms=1_900_000_000_000))
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == [job.id for job in reversed(jobs)]


def test_a_list_may_show_one_state(gateway: Gateway, worker: WorkerQueue) -> None:
    for _ in range(4):
        gateway.submit(new_job())
    done, failed = claimed(worker), claimed(worker)
    worker.succeed(done, Timings())
    worker.fail(failed, CORRUPT)
    running = claimed(worker)
    by_state = {state: [job.id for job in gateway.list(state=state).jobs] for state in JobState}
    assert by_state[JobState.SUCCEEDED] == [done.job.id]
    assert by_state[JobState.FAILED] == [failed.job.id]
    assert by_state[JobState.RUNNING] == [running.job.id]
    assert len(by_state[JobState.QUEUED]) == 1
    assert by_state[JobState.CANCELED] == []


def test_a_last_page_that_is_full_has_no_next(gateway: Gateway) -> None:
    for _ in range(3):
        gateway.submit(new_job())
    assert gateway.list(limit=3).next_cursor is None


@pytest.mark.parametrize("cursor", ["nonsense", "%%%", "é", "AAAA"])
def test_a_cursor_that_is_not_ours_is_refused(gateway: Gateway, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        gateway.list(cursor=cursor)


# --- waiting for a model ---------------------------------------------------------------------------------------------


def test_a_job_waits_for_the_model_without_being_charged_but_not_for_ever(gateway: Gateway, worker: WorkerQueue) -> None:
    gateway.submit(new_job())
    for _ in range(20):
        lease = claimed(worker)
        assert lease.attempt == 1
        assert worker.postpone(lease, UNAVAILABLE, deadline_s=60) == JobState.QUEUED
    lease = claimed(worker)
    time.sleep(0.05)
    assert worker.postpone(lease, UNAVAILABLE, deadline_s=0.05) == JobState.FAILED
    assert gateway.get(lease.job.id).failure == UNAVAILABLE


def test_a_job_that_got_somewhere_waits_anew_and_is_charged(gateway: Gateway, new_worker: Callable[..., WorkerQueue]) -> None:
    worker = new_worker(max_attempts=2)
    gateway.submit(new_job())
    lease = claimed(worker)
    assert worker.postpone(lease, UNAVAILABLE, deadline_s=0.2) == JobState.QUEUED
    for attempt in (1, 2):
        lease = claimed(worker)
        assert lease.attempt == attempt
        worker.report(lease, Progress(stage=Stage.ANALYSING, frames_done=8))
        time.sleep(0.25)
        assert worker.postpone(lease, UNAVAILABLE, deadline_s=0.2) == JobState.QUEUED
    assert worker.claim() is None
    failure = gateway.get(lease.job.id).failure
    assert failure is not None
    assert failure.code == "attempts-exhausted"


def test_jobs_that_wait_for_a_model_too_long_fail(gateway: Gateway, worker: WorkerQueue) -> None:
    old, young = new_job(), new_job(created_ms=1)  # whatever the gateway's clock says: Redis knows who has waited
    gateway.submit(old)
    time.sleep(0.3)
    gateway.submit(young)
    assert worker.fail_stranded(UNAVAILABLE, waited_s=0.2) == 1
    assert gateway.get(old.id).failure == UNAVAILABLE
    assert gateway.get(young.id).state == JobState.QUEUED
    assert claimed(worker).job.id == young.id


def test_jobs_are_not_failed_while_a_worker_is_at_work(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue) -> None:
    for _ in range(2):
        gateway.submit(new_job())
    time.sleep(0.3)
    claimed(other)
    assert worker.fail_stranded(UNAVAILABLE, waited_s=0.2) == 0
    assert gateway.depth().model_dump(exclude={"oldest_s"}) == {"queued": 1, "running": 1, "delayed": 0}


# --- aliases ---------------------------------------------------------------------------------------------------------


def test_the_first_default_of_an_alias_stays(gateway: Gateway, worker: WorkerQueue) -> None:
    assert worker.alias("champion") is None
    assert worker.default_alias("champion", 3) == 3
    assert worker.default_alias("champion", 4) == 3
    worker.promote("champion", 5)
    assert worker.alias("champion") == gateway.alias("champion") == 5
    assert gateway.alias("canary") is None


def test_an_alias_goes_back_the_way_it_came(gateway: Gateway, worker: WorkerQueue) -> None:
    for version in (1, 2, 2, 3):
        worker.promote("champion", version)
    assert worker.alias_history("champion") == (2, 1)
    assert [worker.rollback("champion") for _ in range(2)] == [2, 1]
    assert gateway.alias("champion") == 1
    with pytest.raises(NothingToRollBack):
        worker.rollback("champion")
    assert gateway.alias("champion") == 1


def test_a_version_that_was_left_by_a_rollback_is_not_gone_back_to(worker: WorkerQueue) -> None:
    for version in (1, 2):
        worker.promote("champion", version)
    worker.rollback("champion")
    worker.promote("champion", 3)
    assert worker.rollback("champion") == 1


def test_a_rollback_to_a_version_that_was_made_ready_goes_to_no_other(worker: WorkerQueue, other: WorkerQueue) -> None:
    for version in (1, 2):
        worker.promote("champion", version)
    other.promote("champion", 3)
    with pytest.raises(NothingToRollBack, match="moved"):
        worker.rollback("champion", to=1)
    assert (worker.alias("champion"), worker.alias_history("champion")) == (3, (2, 1))


def test_a_rollback_whose_reply_was_lost_is_not_done_twice(worker: WorkerQueue) -> None:
    for version in (1, 2, 3):
        worker.promote("champion", version)
    assert [worker.rollback("champion", to=2) for _ in range(2)] == [2, 2]
    assert (worker.alias("champion"), worker.alias_history("champion")) == (2, (1,))


def test_aliases_do_not_share_their_history_and_it_stays_short(worker: WorkerQueue) -> None:
    for version in range(1, 40):
        worker.promote("champion", version)
    worker.promote("canary", 40)
    assert worker.alias_history("champion") == tuple(range(38, 18, -1))
    assert worker.alias_history("canary") == ()


# --- Redis away ------------------------------------------------------------------------------------------------------


def test_the_gateway_hears_soon_that_redis_is_down(redis_server: Any) -> None:
    redis_server.kill()
    gateway = Gateway(redis_server.url)
    for call in (gateway.ping, gateway.depth, lambda: gateway.submit(new_job())):
        began = time.monotonic()
        with pytest.raises(QueueUnavailable):
            call()
        assert time.monotonic() - began < 2.5


def test_the_gateway_does_not_wait_for_a_redis_that_hangs(redis_server: Any) -> None:
    redis_server.pause()
    began = time.monotonic()
    with pytest.raises(QueueUnavailable):
        Gateway(redis_server.url).depth()
    assert time.monotonic() - began < 2.5


def test_nothing_that_was_accepted_is_lost_when_redis_is_killed(redis_server: Any) -> None:
    gateway, worker = Gateway(redis_server.url), WorkerQueue(redis_server.url, lease_s=30)  # on a slow disk the claims below take a while
    jobs = [new_job() for _ in range(20)]
    for job in jobs:
        gateway.submit(job)
    lease = claimed(worker)
    redis_server.kill()
    redis_server.start()
    assert worker.beat(lease) == Beat.HELD
    assert [claimed(worker).job.id for _ in jobs[1:]] == [job.id for job in jobs[1:]]
    worker.close()


def test_nothing_is_stolen_for_one_lease_after_an_outage(redis_server: Any) -> None:
    gateway = Gateway(redis_server.url)
    holder, thief = WorkerQueue(redis_server.url, lease_s=1), WorkerQueue(redis_server.url, lease_s=1)
    gateway.submit(new_job())
    lease = claimed(holder)
    assert thief.claim() is None
    redis_server.kill()
    with pytest.raises(QueueUnavailable):
        thief.claim()
    time.sleep(1.2)
    redis_server.start()
    assert thief.claim() is None
    assert holder.beat(lease) == Beat.HELD
    time.sleep(1.2)
    assert claimed(thief).job.id == lease.job.id
    holder.close()
    thief.close()


def test_a_redis_that_lost_everything_is_worked_with_again(gateway: Gateway, worker: WorkerQueue, raw: redis.Redis) -> None:
    gateway.submit(new_job())
    lease = claimed(worker)
    raw.flushall()
    worker.wait(0.05)
    assert worker.claim() is None
    assert worker.beat(lease) == Beat.LOST
    gateway.submit(new_job())
    assert worker.claim() is not None


def test_redis_holds_no_media_and_no_file_names(gateway: Gateway, worker: WorkerQueue, raw: redis.Redis) -> None:
    gateway.submit(new_job())
    record = raw.hgetall(f"mien:job:{claimed(worker).job.id}")
    own = {"entry", "lease", "errors", "crashes", "waiting_ms", "accepted_ms", "revision"}
    assert set(record) - own <= set(Job.model_fields)
    assert sum(map(len, record.values())) < 1000


# --- while services are renewed ---------------------------------------------------------------------------------------


def asked_of_a_newer_one(raw: redis.Redis, job: Job) -> None:
    """As a gateway that lets clients ask for more would write it."""
    options = json.loads(raw.hget(f"mien:job:{job.id}", "options") or "")
    raw.hset(f"mien:job:{job.id}", "options", json.dumps({**options, "backwards": True}))


def test_what_only_a_newer_worker_can_do_waits_for_one_and_burns_nothing(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, raw: redis.Redis
) -> None:
    gateway.submit(newer := new_job())
    gateway.submit(known := new_job())
    asked_of_a_newer_one(raw, newer)
    assert worker.claim() is None
    assert gateway.get(newer.id).options == newer.options, "it can be shown all the same"
    assert (gateway.get(newer.id).state, gateway.get(newer.id).attempts) == (JobState.QUEUED, 0)
    assert claimed(worker).job.id == known.id
    for _ in range(20):
        raw.zadd("mien:delayed", {newer.id: 0})
        assert worker.claim() is None
    raw.hset(f"mien:job:{newer.id}", "options", newer.options.model_dump_json())
    raw.zadd("mien:delayed", {newer.id: 0})
    assert claimed(worker).attempt == 1


def test_what_nobody_can_do_fails_in_the_end(gateway: Gateway, worker: WorkerQueue, raw: redis.Redis) -> None:
    gateway.submit(job := new_job())
    asked_of_a_newer_one(raw, job)
    raw.hset(f"mien:job:{job.id}", "waiting_ms", 1)
    assert worker.claim() is None
    failure = gateway.get(job.id).failure
    assert failure is not None
    assert (gateway.get(job.id).state, failure.code) == (JobState.FAILED, "internal-error")

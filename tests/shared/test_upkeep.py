"""Folder and Redis in step: what Redis forgot comes back, what is past its time goes, and neither is done to anything else."""

import json
import os
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.errors import JobNotFound, MediaMissing
from shared.idempotency import Idempotency, key_digest
from shared.jobs import FINAL_STATES, Failure, Job, JobState, Options, Progress, Stage, Timings
from shared.queue import Lease, WorkerQueue
from shared.queue_upkeep import UpkeepQueue
from shared.results import Coverage, Media, ModelInfo, Result
from shared.upkeep import SETTLED_S, clear_ended, reconcile, tidy
from shared.videos import LONGEST_DELETION_S, End, Videos
from tests.shared.conftest import Gateway, claimed, new_job

DAY_MS = 24 * 3600 * 1000
TRUNCATIONS = int(os.environ.get("MIEN_TRUNCATIONS", "20"))
MOST_ATTEMPTS = 10
"""What a worker's queue lets a job have by default."""
CORRUPT = Failure(code="media-corrupt", title="The video is damaged before its first usable frame.")


@pytest.fixture
def videos(tmp_path: Path) -> Videos:
    videos = Videos(tmp_path / "data")
    videos.prepare()
    return videos


def result(job_id: str, *, release: int = 1) -> Result:
    return Result(
        id=job_id,
        model=ModelInfo(release=release, preprocess="p1"),
        media=Media(duration_ms=1, width=1, height=1, frames_decoded=1, codec="c", container="c", rotation_degrees=0),
        coverage=Coverage(frames_sampled=7, frames_with_face=0, frames_used=0, faces_found=0, faces_used=0, dropped={}),
        tracks=(),
        warnings=("partial-decode",),
    )


def accept(videos: Videos, gateway: Gateway, job: Job | None = None, idempotency: Idempotency | None = None) -> Job:
    """Take and queue a video, as the gateway does."""
    job = job or new_job()
    videos.incoming(job.id).write_bytes(b"video")
    videos.accept(job, idempotency)
    gateway.submit(job, idempotency)
    return job


def finish(videos: Videos, worker: WorkerQueue, lease: Lease) -> bool:
    """Write a result and tell the queue, as a worker does."""
    videos.write_result(result(lease.job.id), lease.token)
    return worker.succeed(lease, Timings(total=5), ("partial-decode",))


def names(videos: Videos, job_id: str) -> set[str]:
    return {path.name for path in (videos.root / "analyses" / job_id).iterdir()}


# --- what Redis forgot -----------------------------------------------------------------------------------------------


def test_all_that_was_accepted_is_final_after_redis_was_wiped(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    jobs = [accept(videos, gateway, new_job(tenant=f"t{number % 3}")) for number in range(100)]
    for number in range(40):
        finish(videos, worker, lease := claimed(worker))
        if number == 9:
            clear_ended(videos, upkeep, settled_s=0)  # of some the end is written, of the others only the result is there
    before = {job.id: gateway.get_with_result(job.id) for job in jobs}
    running = claimed(worker)
    raw.flushall()
    assert reconcile(videos, upkeep) == (100, 0)
    assert reconcile(videos, upkeep) == (0, 0)
    while lease := worker.claim():
        assert before[lease.job.id][0].state == JobState.QUEUED, "nothing that had a result is done again"
        finish(videos, worker, lease)
    assert not finish(videos, worker, running)
    for job in jobs:
        record, attempt = gateway.get_with_result(job.id)
        assert (record.state, record.tenant) == (JobState.SUCCEEDED, job.tenant)
        assert videos.read_result(job.id, attempt) == result(job.id)
        if before[job.id][1]:
            assert attempt == before[job.id][1], "the result that was seen is the result that is seen"


def test_an_end_that_was_written_comes_back_word_by_word(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    for _ in range(3):
        accept(videos, gateway)
    done, failed, canceled = (worker.pin(claimed(worker), 3) for _ in range(3))
    worker.report(done, Progress(stage=Stage.ANALYSING, frames_done=4, frames_total=8))
    finish(videos, worker, done)
    worker.fail(failed, CORRUPT)
    gateway.cancel(canceled.job.id)
    worker.canceled(canceled)
    clear_ended(videos, upkeep, settled_s=0)
    before = gateway.list().jobs
    raw.flushall()
    assert reconcile(videos, upkeep) == (3, 0)
    assert gateway.list().jobs == before
    assert {job.state for job in before} == FINAL_STATES
    assert worker.claim() is None


def test_a_result_alone_tells_of_success(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    job = accept(videos, gateway)
    finish(videos, worker, lease := claimed(worker))
    raw.flushall()
    reconcile(videos, upkeep)
    record, attempt = gateway.get_with_result(job.id)
    assert (record.state, record.release, record.warnings, attempt) == (JobState.SUCCEEDED, 1, ("partial-decode",), lease.token)
    assert (record.progress, record.timings) == (Progress(stage=Stage.DONE, frames_done=7, percent=100), None)
    assert abs((record.ended_ms or 0) - time.time() * 1000) < 5000


def test_a_job_that_comes_back_has_no_more_tries_than_it_had(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    job = accept(videos, gateway)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        lease = claimed(worker)
        assert (lease.attempt, gateway.get(job.id).attempts) == (attempt, attempt)
        videos.begin_windows(job.id, attempt)
        raw.flushall()  # while a worker is at it, which it kills
        assert reconcile(videos, upkeep) == (1, 0)
        assert (gateway.get(job.id).state, gateway.get(job.id).attempts) == (JobState.QUEUED, attempt)
    assert worker.claim() is None
    failed = gateway.get(job.id)
    assert failed.failure is not None
    assert (failed.state, failed.failure.code) == (JobState.FAILED, "attempts-exhausted")


def test_an_attempt_after_a_wipe_shares_no_file_with_the_one_before(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    job = accept(videos, gateway)
    cut_off = claimed(worker)
    videos.begin_windows(job.id, cut_off.attempt)
    raw.flushall()
    reconcile(videos, upkeep)
    after = claimed(worker)
    videos.begin_windows(job.id, after.attempt)
    assert cut_off.attempt != after.attempt
    assert finish(videos, worker, after)
    raw.flushall()
    reconcile(videos, upkeep)
    assert gateway.get(job.id).attempts == after.attempt
    clear_ended(videos, upkeep, settled_s=0)
    assert f"windows-{after.attempt}.jsonl" in names(videos, job.id)


def test_the_order_of_acceptance_is_the_order_of_work(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    jobs = [accept(videos, gateway, new_job(created_ms=1000 - number)) for number in range(20)]
    raw.flushall()
    reconcile(videos, upkeep)
    assert [claimed(worker).job.id for _ in jobs] == [job.id for job in reversed(jobs)]


def test_a_job_that_redis_takes_for_unfinished_ends_as_its_folder_says(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos
) -> None:
    """Redis came back from a copy that misses the last writes: the job is done once more, unless this is seen first."""
    job = accept(videos, gateway)
    again = claimed(worker)
    ended = job.model_copy(update={"state": JobState.FAILED, "ended_ms": time.time_ns() // 1_000_000, "failure": CORRUPT})
    videos.write_end(End(job=ended))
    assert reconcile(videos, upkeep) == (1, 0)
    assert gateway.get(job.id) == ended
    assert not finish(videos, worker, again)
    assert worker.claim() is None


def test_a_result_that_nobody_told_of_is_not_made_again(gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos) -> None:
    """A worker is killed between its result and its word; or that word is among what Redis lost."""
    job = accept(videos, gateway)
    lease = claimed(worker)
    videos.write_result(result(job.id), lease.token)
    assert reconcile(videos, upkeep, settled_s=60) == (0, 0), "it may be about to say so"
    assert reconcile(videos, upkeep) == (1, 0)
    record, attempt = gateway.get_with_result(job.id)
    assert (record.state, attempt) == (JobState.SUCCEEDED, lease.token)
    assert worker.succeed(lease, Timings()), "which it still may"
    assert worker.claim() is None


def test_what_was_deleted_stays_deleted(gateway: Gateway, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis) -> None:
    gone, kept = accept(videos, gateway), accept(videos, gateway)
    videos.delete(gone.id)
    gateway.delete(gone.id)
    raw.flushall()
    assert reconcile(videos, upkeep) == (1, 0)
    assert [job.id for job in gateway.list().jobs] == [kept.id]


def test_what_is_deleted_while_its_folder_is_read_does_not_come_back(
    gateway: Gateway, upkeep: UpkeepQueue, videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job()
    videos.incoming(job.id).write_bytes(b"video")
    videos.accept(job)
    read = videos.manifest

    def read_and_delete(job_id: str) -> Job:
        found = read(job_id)
        videos.delete(job_id)
        with pytest.raises(JobNotFound):
            gateway.delete(job_id)
        return found

    monkeypatch.setattr(videos, "manifest", read_and_delete)
    assert reconcile(videos, upkeep)[0] == 0
    assert gateway.list().jobs == ()


def test_nobody_is_promised_a_second_job_for_the_same_request(
    gateway: Gateway, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    """A gateway dies between the folder and the queue, and the client asks again; or Redis is wiped between the two."""
    once = Idempotency(key=key_digest("public", "k"), fingerprint="0" * 64)
    orphan = new_job()
    videos.incoming(orphan.id).write_bytes(b"video")
    videos.accept(orphan, once)
    job = accept(videos, gateway, idempotency=once)
    assert reconcile(videos, upkeep) == (0, 1)
    assert videos.ids() == [job.id]
    raw.flushall()
    assert reconcile(videos, upkeep) == (1, 0)
    assert gateway.submit(new_job(), once) == job.id


def test_a_running_gateway_has_its_time_to_queue_what_it_accepted(gateway: Gateway, upkeep: UpkeepQueue, videos: Videos) -> None:
    job = new_job()
    videos.incoming(job.id).write_bytes(b"video")
    videos.accept(job)
    assert tidy(videos, upkeep).restored == 0
    os.utime(videos.root / "analyses" / job.id / "manifest.json", (time.time() - 90,) * 2)
    assert tidy(videos, upkeep).restored == 1
    assert gateway.get(job.id) == job


def test_a_folder_that_cannot_be_read_keeps_no_other_from_coming_back(gateway: Gateway, upkeep: UpkeepQueue, videos: Videos) -> None:
    jobs = [new_job() for _ in range(3)]
    for job in jobs:
        videos.incoming(job.id).write_bytes(b"video")
        videos.accept(job)
    (videos.root / "analyses" / jobs[1].id / "manifest.json").write_text('{"from": "the future"}')
    assert reconcile(videos, upkeep) == (2, 0)
    assert {job.id for job in gateway.list().jobs} == {jobs[0].id, jobs[2].id}
    assert jobs[1].id in videos.ids(), "nothing is removed that cannot be read"


def as_once_written(path: Path, *, kept: bool) -> None:
    """Before `keep_video` was an option, it was a field of the job, in manifests and ends alike."""
    content = json.loads(path.read_text())
    job = content.get("job", content)
    del job["options"]["keep_video"]
    job["keep_video"] = kept
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kept", [False, True])
def test_what_an_earlier_version_accepted_is_not_lost(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis, kept: bool
) -> None:
    waiting, ended = accept(videos, gateway), accept(videos, gateway)
    gateway.cancel(ended.id)
    clear_ended(videos, upkeep, settled_s=0)
    as_once_written(videos.root / "analyses" / waiting.id / "manifest.json", kept=kept)
    as_once_written(videos.root / "analyses" / ended.id / "manifest.json", kept=kept)
    as_once_written(videos.root / "analyses" / ended.id / "end.json", kept=kept)
    raw.flushall()
    assert reconcile(videos, upkeep) == (2, 0)
    assert gateway.get(ended.id).state == JobState.CANCELED
    assert claimed(worker).job.options == Options(keep_video=kept)


def test_an_earlier_versions_end_is_removed_in_time(gateway: Gateway, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis) -> None:
    job = accept(videos, gateway)
    gateway.cancel(job.id)
    clear_ended(videos, upkeep, settled_s=0)
    end = videos.end(job.id)
    assert end is not None
    videos.write_end(End(job=end.job.model_copy(update={"ended_ms": job.created_ms - 7 * DAY_MS})))
    as_once_written(videos.root / "analyses" / job.id / "end.json", kept=False)
    raw.flushall()
    assert reconcile(videos, upkeep) == (0, 1)
    assert videos.ids() == []


def test_reconciling_beside_a_gateway_and_workers_changes_nothing(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, redis_url: str
) -> None:
    done = threading.Event()
    beside: list[tuple[int, int]] = []

    def keep_on() -> None:
        while not done.is_set():
            beside.append(reconcile(videos, upkeep, settled_s=60))

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        for _ in range(15):
            accept(videos, gateway)
            finish(videos, worker, claimed(worker))
    finally:
        done.set()
        thread.join()
    assert set(beside) == {(0, 0)}
    assert [job.attempts for job in gateway.list().jobs] == [1] * 15


def test_a_redis_whose_log_lost_its_tail_starts_and_learns_the_rest(
    redis_server: Any, redis_program: Path, videos: Videos, tmp_path: Path
) -> None:
    gateway, worker = Gateway(redis_server.url), WorkerQueue(redis_server.url, lease_s=30)
    jobs = [accept(videos, gateway) for _ in range(30)]
    for _ in range(10):
        finish(videos, worker, claimed(worker))
    redis_server.kill()
    worker.close()
    dice = random.Random(5)  # noqa: S311
    for number in range(TRUNCATIONS):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "redis", copy)
        log = max(copy.rglob("*.aof"), key=lambda path: path.stat().st_size)
        os.truncate(log, dice.randrange(log.stat().st_size // 20, log.stat().st_size))
        server = type(redis_server)(redis_program, copy)
        server.start()
        try:
            everything_is_found(server.url, videos, jobs)
        finally:
            server.kill()
            shutil.rmtree(copy)


def everything_is_found(url: str, videos: Videos, jobs: list[Job]) -> None:
    gateway, upkeep, worker = Gateway(url), UpkeepQueue(url), WorkerQueue(url, lease_s=30)
    reconcile(videos, upkeep)
    found = {job.id: job.state for job in gateway.list(limit=100).jobs}
    assert found.keys() == {job.id for job in jobs}
    assert sum(state == JobState.SUCCEEDED for state in found.values()) == 10, "no result is made twice"
    waiting = [state for state in found.values() if state == JobState.QUEUED]
    claims = [claimed(worker).job.id for _ in waiting]
    assert len(set(claims)) == len(waiting)
    upkeep.close()
    worker.close()


# --- one result ------------------------------------------------------------------------------------------------------


def test_a_frozen_worker_overwrites_nothing(
    gateway: Gateway, worker: WorkerQueue, other: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    job = accept(videos, gateway)
    frozen = claimed(worker)
    entry = raw.hget(f"mien:job:{job.id}", "entry") or ""
    raw.xclaim("mien:leases", "workers", "worker", 0, [entry], idle=60_000, justid=True)
    other._steal_from = 0.0
    lease = claimed(other)
    videos.write_result(result(job.id, release=2), lease.token)
    assert other.succeed(lease, Timings())
    clear_ended(videos, upkeep, settled_s=0)
    videos.write_result(result(job.id, release=1), frozen.token)  # it wakes up, and does not know
    record, attempt = gateway.get_with_result(job.id)
    assert (attempt, videos.read_result(job.id, attempt).model.release) == (lease.token, 2)
    assert not worker.succeed(frozen, Timings())
    assert gateway.get_with_result(job.id) == (record, attempt)
    assert clear_ended(videos, upkeep, settled_s=0) == 1, "the folder is looked after once more"
    assert videos.results(job.id) == [lease.token]


def test_a_result_that_does_not_count_can_be_dropped(videos: Videos, gateway: Gateway) -> None:
    job = accept(videos, gateway)
    videos.write_result(result(job.id), "a" * 32)
    videos.write_result(result(job.id), "b" * 32)
    assert videos.results(job.id) == ["a" * 32, "b" * 32]
    for _ in range(2):
        videos.drop_result(job.id, "a" * 32)
    assert videos.results(job.id) == ["b" * 32]


# --- what is past its time -------------------------------------------------------------------------------------------


def test_the_video_goes_after_the_end_and_the_result_stays(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    job = accept(videos, gateway)
    lease = claimed(worker)
    videos.begin_windows(job.id, 1)
    (videos.root / "analyses" / job.id / ".result.json.0").write_bytes(b"half")
    (videos.root / "analyses" / job.id / "windows-7.jsonl").write_bytes(b"")
    videos.write_result(result(job.id), "e" * 32)
    finish(videos, worker, lease)
    assert tidy(videos, upkeep).tidied == 0, "not before everybody has noticed the end"
    raw.zincrby("mien:ended", -1000 * SETTLED_S, job.id)
    assert tidy(videos, upkeep).tidied == 1
    assert names(videos, job.id) == {"manifest.json", "end.json", f"result-{lease.token}.json", "windows-1.jsonl"}
    assert tidy(videos, upkeep).tidied == 0
    with pytest.raises(MediaMissing):
        videos.video(job.id)
    assert videos.end(job.id) == End(job=gateway.get(job.id), attempt=lease.token)
    assert gateway.get(job.id).state == JobState.SUCCEEDED


@pytest.mark.parametrize("asked", [Options(keep_video=True), Options(training_consent=True)])
def test_a_video_is_kept_for_those_who_asked(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, asked: Options
) -> None:
    job = accept(videos, gateway, new_job().model_copy(update={"options": asked}))
    finish(videos, worker, claimed(worker))
    clear_ended(videos, upkeep, settled_s=0)
    assert videos.video(job.id).read_bytes() == b"video"


def test_after_seven_days_nothing_is_left(
    gateway: Gateway, worker: WorkerQueue, upkeep: UpkeepQueue, videos: Videos, raw: redis.Redis
) -> None:
    once = Idempotency(key=key_digest("public", "k"), fingerprint="0" * 64)
    job, young = accept(videos, gateway, idempotency=once), accept(videos, gateway)
    finish(videos, worker, claimed(worker))
    finish(videos, worker, claimed(worker))
    clear_ended(videos, upkeep, settled_s=0)
    end = videos.end(job.id)
    assert end is not None
    assert end.job.ended_ms is not None
    videos.write_end(End(job=end.job.model_copy(update={"ended_ms": end.job.ended_ms - 7 * DAY_MS}), attempt=end.attempt))
    raw.zadd("mien:expires", {f"{job.created_ms:013d} {job.id}": 0})
    assert tidy(videos, upkeep).removed == 1
    assert videos.ids() == [young.id]
    gateway.list()
    assert [key for key in raw.keys("mien:*") if job.id in key or once.key in key] == [f"mien:gone:{job.id}"]
    raw.flushall()
    assert reconcile(videos, upkeep) == (1, 0)


def test_a_deletion_that_was_broken_off_is_finished_within_minutes(videos: Videos, upkeep: UpkeepQueue) -> None:
    left = videos.incoming("an_0.deleted")
    left.mkdir()
    (left / "video").write_bytes(b"video")
    tidy(videos, upkeep)
    assert left.exists(), "whoever deletes it may be at it"
    os.utime(left, (time.time() - LONGEST_DELETION_S - 1,) * 2)
    tidy(videos, upkeep)
    assert not left.exists()


@pytest.mark.parametrize("step", ["write_end", "clear", "tidied"])
def test_killed_at_any_step_the_next_call_goes_on(
    gateway: Gateway,
    worker: WorkerQueue,
    upkeep: UpkeepQueue,
    videos: Videos,
    raw: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    jobs = [accept(videos, gateway) for _ in range(4)]
    for _ in jobs:
        finish(videos, worker, claimed(worker))

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for wiped in (False, True):
        with monkeypatch.context() as kill:
            kill.setattr(upkeep if step == "tidied" else videos, step, killed)
            with pytest.raises(Killed):
                clear_ended(videos, upkeep, settled_s=0)
        if wiped:
            raw.flushall()
            reconcile(videos, upkeep)
    assert clear_ended(videos, upkeep, settled_s=0) == 4
    for job in jobs:
        record, attempt = gateway.get_with_result(job.id)
        assert names(videos, job.id) == {"manifest.json", "end.json", f"result-{attempt}.json"}
        assert record.state == JobState.SUCCEEDED
    assert worker.claim() is None


def test_a_folder_that_is_gone_is_tidy(gateway: Gateway, upkeep: UpkeepQueue, videos: Videos) -> None:
    job = accept(videos, gateway)
    gateway.cancel(job.id)
    videos.delete(job.id)
    assert clear_ended(videos, upkeep, settled_s=0) == 1
    assert clear_ended(videos, upkeep, settled_s=0) == 0
    assert videos.ids() == []


def test_a_disk_in_trouble_is_tried_again_the_next_minute(
    gateway: Gateway, upkeep: UpkeepQueue, videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accept(videos, gateway)
    gateway.cancel(job.id)

    def unlink(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", unlink)
        assert clear_ended(videos, upkeep, settled_s=0) == 0
    assert clear_ended(videos, upkeep, settled_s=0) == 1
    assert "video" not in names(videos, job.id)


def test_a_redis_that_lost_its_data_has_another_generation(upkeep: UpkeepQueue, raw: redis.Redis) -> None:
    first = upkeep.generation()
    assert upkeep.generation() == first
    raw.flushall()
    assert upkeep.generation() != first

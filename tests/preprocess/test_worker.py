"""Real worker processes on a real Redis, and what they do when they, Redis or the model are taken away."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from shared.errors import JobNotFound, MediaMissing, QueueUnavailable, ResultGone
from shared.jobs import FINAL_STATES, Failure, Job, JobState
from shared.queue import GatewayQueue
from shared.releases import Release
from shared.results import Result
from shared.videos import Videos

PROGRAM = Path(__file__).with_name("worker_program.py")
ROOT = Path(__file__).parents[2]
LEASE_S = 1.0
PATIENCE_S = 25.0
RELEASE = Release(
    version=1, size=32, width=0.5, feature_size=8, training={}, metrics={}, data=(), commit="0" * 40, notes="judges nothing: for a test"
)

Answer = TypeVar("Answer")
numbers = itertools.count(1)


class Stage:
    """A data folder, a model repository, a Redis, and any number of workers."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.videos = Videos(folder / "data")
        self.videos.prepare()
        release = folder / "models" / RELEASE.name
        release.mkdir(parents=True)
        (release / "release.json").write_text(RELEASE.model_dump_json())
        self.model_ready(True)
        self._workers: list[subprocess.Popen[bytes]] = []

    def model_ready(self, yes: bool) -> None:
        (self.folder / "ready").touch() if yes else (self.folder / "ready").unlink()

    def worker(self, **settings: Any) -> "subprocess.Popen[bytes]":
        """A worker in a process group of its own, with its keeper."""
        arguments = [self.folder, self.url, json.dumps({"lease_s": LEASE_S, **settings})]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, PROGRAM, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._workers.append(process)
        return process

    def submit(self, video: str) -> str:
        """Take and queue a "video", as the gateway would."""
        job = self.take(video)
        self.ask("submit", job)
        return job.id

    def take(self, video: str) -> Job:
        job_id = f"an_{next(numbers):032x}"
        job = Job(id=job_id, size_bytes=len(video), sha256="0" * 64, request_id=f"r-{job_id}", created_ms=time.time_ns() // 1_000_000)
        self.videos.incoming(job.id).write_text(video)
        self.videos.accept(job)
        return job

    def ask(self, name: str, *args: object) -> Any:
        async def call() -> object:
            queue = GatewayQueue(self.url)
            try:
                return await getattr(queue, name)(*args)
            finally:
                await queue.close()

        return asyncio.run(call())

    def job(self, job_id: str) -> Job:
        found = self.ask("get", job_id)
        assert isinstance(found, Job)
        return found

    def result(self, job_id: str) -> Result:
        """The one that counts."""
        _, attempt = self.ask("get_with_result", job_id)
        return self.videos.read_result(job_id, attempt)

    def running(self, job_id: str) -> Job:
        return eventually(lambda: self._where(job_id, lambda job: job.state == JobState.RUNNING and self.starts(job_id) == job.attempts))

    def ended(self, job_id: str) -> Job:
        return eventually(lambda: self._where(job_id, lambda job: job.state in FINAL_STATES))

    def starts(self, job_id: str) -> int:
        return self._starts().count(job_id)

    def events(self) -> list[dict[str, Any]]:
        """What the workers and their keepers have logged."""
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def outcomes(self, job_id: str) -> list[str]:
        """How the attempts at a job ended, in the words of the workers that made them."""
        return [event["outcome"] for event in self.events() if event["event"] == "ended" and event["job_id"] == job_id]

    def kill_all(self) -> None:
        for process in self._workers:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _where(self, job_id: str, wanted: Callable[[Job], bool]) -> Job | None:
        with suppress(QueueUnavailable):
            job = self.job(job_id)
            return job if wanted(job) else None
        return None

    def _starts(self) -> list[str]:
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def eventually(seen: Callable[[], Answer | None], *, within_s: float = PATIENCE_S) -> Answer:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if answer := seen():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not seen within {within_s} s")


@pytest.fixture
def stage(tmp_path: Path, redis_url: str) -> Iterator[Stage]:
    yield from staged(Stage(tmp_path, redis_url))


@pytest.fixture
def own_redis_stage(tmp_path: Path, redis_server: Any) -> Iterator[Stage]:
    yield from staged(Stage(tmp_path, redis_server.url))


def staged(stage: Stage) -> Iterator[Stage]:
    try:
        yield stage
    finally:
        stage.kill_all()


# --- the ordinary road -----------------------------------------------------------------------------------------------


def test_jobs_are_done_once_each_and_bad_ones_stop_nobody(stage: Stage) -> None:
    good, corrupt, broken, last = (stage.submit(video) for video in ("take 0.2", "refuse", "raise", "take 0.1"))
    stage.worker()
    assert [stage.ended(job_id).state for job_id in (good, corrupt, last)] == ["succeeded", "failed", "succeeded"]
    done = stage.job(good)
    assert (done.release, done.progress.percent, done.attempts) == (1, 100, 1)
    assert done.timings is not None
    assert done.timings.total == 1
    assert stage.result(good).id == good
    refused = stage.job(corrupt)
    assert refused.failure is not None
    assert (refused.failure.code, refused.attempts) == ("media-corrupt", 1)
    given_up = stage.ended(broken)
    assert given_up.failure is not None
    assert (given_up.failure.code, given_up.failure.detail, given_up.attempts) == ("internal-error", "ZeroDivisionError", 3)
    assert [stage.starts(job_id) for job_id in (good, corrupt, broken, last)] == [1, 1, 3, 1]
    eventually(lambda: stage.outcomes(broken) == ["retried", "retried", "failed"])
    assert any("ZeroDivisionError" in event.get("traceback", "") for event in stage.events())


def test_a_decoder_that_fell_silent_is_tried_again_and_one_that_worked_too_long_is_not(stage: Stage) -> None:
    stalled, toiled = stage.submit("stall"), stage.submit("toil")
    stage.worker()
    failures = [stage.ended(job_id).failure for job_id in (stalled, toiled)]
    assert [failure and failure.code for failure in failures] == ["decode-timeout"] * 2
    eventually(lambda: stage.outcomes(stalled) == ["retried", "failed"])
    eventually(lambda: stage.outcomes(toiled) == ["failed"])


# --- workers that die, hang, or are told to go -----------------------------------------------------------------------


def test_a_job_outlives_its_worker(stage: Stage) -> None:
    job_id = stage.submit("take 1")
    first = stage.worker()
    stage.running(job_id)
    keepers = psutil.Process(first.pid).children()
    first.kill()
    first.wait()
    stage.worker()
    done = stage.ended(job_id)
    assert (done.state, done.attempts, stage.starts(job_id)) == (JobState.SUCCEEDED, 2, 2)
    assert len(keepers) == 1
    assert not keepers[0].is_running()


def test_a_poisonous_job_fails_and_the_others_run_once(stage: Stage) -> None:
    poison, *innocents = [stage.submit(video) for video in ("die", "take 0.1", "take 0.1", "take 0.1")]
    workers = [stage.worker(max_attempts=2) for _ in range(2)]
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=10)
    stage.worker(max_attempts=2)
    failed = stage.ended(poison)
    assert failed.failure is not None
    assert (failed.failure.code, failed.attempts, stage.starts(poison)) == ("attempts-exhausted", 2, 2)
    assert [stage.ended(job_id).state for job_id in innocents] == ["succeeded"] * 3
    assert [stage.starts(job_id) for job_id in innocents] == [1] * 3


@pytest.mark.parametrize("video", ["take 1", "sleep 1"])
def test_a_frozen_worker_comes_back_too_late(stage: Stage, video: str) -> None:
    job_id = stage.submit(video)
    frozen = stage.worker()
    stage.running(job_id)
    os.killpg(frozen.pid, signal.SIGSTOP)
    stage.worker()
    done = stage.ended(job_id)
    counts = stage.result(job_id)
    os.killpg(frozen.pid, signal.SIGCONT)
    eventually(lambda: stage.outcomes(job_id) == ["succeeded", "lost"])
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert stage.job(job_id) == done
    assert stage.result(job_id) == counts
    assert frozen.poll() is None


def test_a_lease_is_kept_while_a_job_holds_the_interpreters_lock(stage: Stage) -> None:
    job_id = stage.submit("deaf 3")
    for _ in range(2):
        stage.worker()
    assert stage.ended(job_id).attempts == 1
    assert stage.starts(job_id) == 1


def test_a_keeper_that_dies_is_replaced(stage: Stage) -> None:
    job_id = stage.submit("take 3")
    worker = stage.worker()
    stage.running(job_id)
    stage.worker()
    psutil.Process(worker.pid).children()[0].kill()
    assert stage.ended(job_id).attempts == 1


def test_a_worker_finishes_its_job_before_it_goes(stage: Stage) -> None:
    job_id, never = stage.submit("take 1"), stage.submit("take 1")
    worker = stage.worker(grace_s=10)
    stage.running(job_id)
    worker.terminate()
    assert worker.wait(timeout=10) == 0
    assert stage.job(job_id).state == JobState.SUCCEEDED
    assert stage.starts(never) == 0


def test_a_worker_that_is_told_to_go_begins_nothing(stage: Stage) -> None:
    job_id = stage.submit("take 0.1")
    worker = stage.worker(grace_s=10, answers_after_s=1.5)
    eventually(lambda: any(event["event"] == "release" for event in stage.events()))  # and now it asks the model
    worker.terminate()
    assert worker.wait(timeout=10) == 0
    assert (stage.job(job_id).state, stage.starts(job_id)) == (JobState.QUEUED, 0)


@pytest.mark.parametrize("video", ["take 30", "sleep 30"])
def test_a_worker_that_may_not_finish_hands_its_job_back(stage: Stage, video: str) -> None:
    job_id = stage.submit(video)
    worker = stage.worker(grace_s=0.3)
    stage.running(job_id)
    worker.terminate()
    assert worker.wait(timeout=6) == 75
    job = stage.job(job_id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_a_job_that_never_ends_is_ended(stage: Stage) -> None:
    job_id = stage.submit("deaf 60")
    worker = stage.worker(max_runtime_s=0.5)
    assert worker.wait(timeout=15) == -signal.SIGKILL
    assert (stage.job(job_id).state, stage.ask("depth").delayed) == (JobState.QUEUED, 1)


# --- canceling and deleting ------------------------------------------------------------------------------------------


def test_a_running_job_stops_when_it_is_canceled(stage: Stage) -> None:
    job_id, next_id = stage.submit("take 30"), stage.submit("take 0.1")
    stage.worker()
    stage.running(job_id)
    assert stage.ask("cancel", job_id).cancel_requested
    assert stage.ended(job_id).state == JobState.CANCELED
    assert stage.ended(next_id).state == JobState.SUCCEEDED


def test_a_running_job_stops_when_it_is_deleted(stage: Stage) -> None:
    job_id, next_id = stage.submit("take 30"), stage.submit("take 0.1")
    stage.worker()
    stage.running(job_id)
    stage.ask("delete", job_id)
    stage.videos.delete(job_id)
    assert stage.ended(next_id).state == JobState.SUCCEEDED
    with pytest.raises(JobNotFound):
        stage.job(job_id)
    with pytest.raises(ResultGone):
        stage.videos.read_result(job_id)


def test_a_job_without_its_video_is_tried_again_and_then_fails_for_all_to_see(stage: Stage) -> None:
    job_id, next_id = stage.submit("take 30"), stage.submit("take 0.1")
    stage.videos.delete(job_id)
    stage.worker()
    assert stage.ended(next_id).state == JobState.SUCCEEDED
    job = stage.ended(job_id)
    assert job.failure == Failure.of(MediaMissing())
    eventually(lambda: stage.outcomes(job_id) == ["retried", "retried", "failed"])


def test_a_video_that_was_away_for_a_moment_is_analysed(stage: Stage) -> None:
    job_id = stage.submit("take 0.1")
    video = stage.videos.video(job_id)
    video.rename(video.with_name("away"))
    stage.worker()
    eventually(lambda: stage.outcomes(job_id)[:1] == ["retried"])
    video.with_name("away").rename(video)
    assert stage.ended(job_id).state == JobState.SUCCEEDED


def test_a_job_that_redis_takes_after_the_gateway_gave_up_fails(own_redis_stage: Stage, redis_server: Any) -> None:
    stage = own_redis_stage
    job = stage.take("take 30")

    async def submit_in_vain() -> None:
        queue = GatewayQueue(stage.url)
        await queue.depth()  # so that Redis knows the script, and the next call is on its way while Redis stands still
        redis_server.pause()
        with pytest.raises(QueueUnavailable):
            await queue.submit(job)
        redis_server.resume()
        await queue.close()

    asyncio.run(submit_in_vain())
    stage.videos.delete(job.id)
    assert stage.job(job.id).state == JobState.QUEUED
    stage.worker()
    assert stage.ended(job.id).failure == Failure.of(MediaMissing())


# --- Redis and the model away ----------------------------------------------------------------------------------------


def test_a_job_survives_a_crash_of_redis(own_redis_stage: Stage, redis_server: Any) -> None:
    stage = own_redis_stage
    running = stage.submit("take 2")
    stage.worker()
    stage.running(running)
    stage.worker()
    waiting = stage.submit("take 0.1")
    redis_server.kill()
    time.sleep(2.5)  # longer than the lease, and the job ends meanwhile
    redis_server.start()
    done = [stage.ended(job_id) for job_id in (running, waiting)]
    assert [job.state for job in done] == [JobState.SUCCEEDED] * 2
    assert [stage.starts(job.id) for job in done] == [1, 1]


def test_no_job_is_begun_while_there_is_no_model(stage: Stage) -> None:
    stage.model_ready(False)
    job_id = stage.submit("take 0.1")
    stage.worker()
    eventually(lambda: any("mien_000001 is not ready" in event["event"] for event in stage.events()))
    time.sleep(1)
    assert (stage.job(job_id).state, stage.job(job_id).attempts) == (JobState.QUEUED, 0)
    stage.model_ready(True)
    assert stage.ended(job_id).attempts == 1


def test_a_model_that_does_not_answer_burns_no_attempts(stage: Stage) -> None:
    job_id = stage.submit("miss")
    stage.worker(max_attempts=1, inference_deadline_s=2.5)
    eventually(lambda: stage.starts(job_id) >= 2)
    failed = stage.ended(job_id)
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.retryable) == ("inference-unavailable", True)
    assert failed.failure.detail == "UNAVAILABLE"
    assert any("10.1.2.3" in event.get("reason", "") for event in stage.events())


def test_jobs_do_not_wait_for_a_model_for_ever(stage: Stage) -> None:
    stage.model_ready(False)
    job_id = stage.submit("take 0.1")
    stage.worker(inference_deadline_s=1)
    failed = stage.ended(job_id)
    assert failed.failure is not None
    assert (failed.failure.code, failed.attempts) == ("inference-unavailable", 0)

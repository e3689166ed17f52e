"""Bad files as jobs: a real worker on a real Redis says what is wrong with each, and goes on with the next."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import psutil

from shared.jobs import FINAL_STATES, Job, JobState
from shared.queue import GatewayQueue
from shared.releases import Release
from shared.videos import Videos
from tests.corpus.bombs import bombs
from tests.corpus.cases import Case
from tests.corpus.corners import corners
from tests.corpus.judging import CODES, MIB
from tests.corpus.mutations import mutant
from tests.corpus.strangers import strangers

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240.0
MOST_MEMORY = 512 * MIB
FILES = 20
MUTANTS = 10
RELEASE = Release(
    version=1, size=32, width=0.5, feature_size=8, training={}, metrics={}, data=(), commit="0" * 40, notes="judges nothing: for a test"
)

Answer = TypeVar("Answer")


def test_thirty_bad_files_and_the_worker_lives(tmp_path: Path, redis_url: str) -> None:
    videos = prepared(tmp_path)
    cases = refused_ones()
    files = {case.name: case.write(tmp_path) for case in cases}
    contents = [path.read_bytes() for path in files.values()] + [mutant(number).content for number in range(MUTANTS)]
    with working(tmp_path, redis_url) as worker:
        bad = [submit(videos, redis_url, content) for content in contents]
        good = submit(videos, redis_url, good_clip(tmp_path))
        jobs = [ended(redis_url, job_id) for job_id in [*bad, good]]
        assert psutil.Process(worker.pid).memory_info().rss <= MOST_MEMORY
        assert worker.poll() is None
    codes = {case.name: job.failure.code if job.failure else job.state for case, job in zip(cases, jobs, strict=False)}
    right = {case.name: {error.code() for error in case.expected.errors} for case in cases}
    assert {name: code for name, code in codes.items() if code not in right[name]} == {}
    for job in jobs[FILES:-1]:
        assert job.state == JobState.SUCCEEDED or (job.failure and job.failure.code in CODES), job
    assert jobs[-1].state == JobState.SUCCEEDED
    assert {job.attempts for job in jobs} == {1}, "a verdict on a file is final"


def refused_ones() -> list[Case]:
    """Some of each kind, the same in every run. An empty file is refused by the gateway, and never becomes a job."""
    taken = [case for case in [*strangers(), *corners(), *bombs()] if case.name != "empty.mp4"]
    bad = [case for case in taken if case.expected.errors and not case.expected.numbers and not case.limits]
    chosen = bad[:: max(1, len(bad) // FILES)][:FILES]
    assert len(chosen) == FILES
    return chosen


def good_clip(folder: Path) -> bytes:
    (case,) = (case for case in corners() if case.name == "h264.mp4")
    return case.write(folder).read_bytes()


# --- a worker, and what the gateway would do -------------------------------------------------------------------------


def prepared(folder: Path) -> Videos:
    release = folder / "models" / RELEASE.name
    release.mkdir(parents=True)
    (release / "release.json").write_text(RELEASE.model_dump_json())
    videos = Videos(folder / "data")
    videos.prepare()
    return videos


@contextmanager
def working(folder: Path, url: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A worker in a process group of its own, with its keeper and its decoders."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.corpus.worker", folder, url], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def submit(videos: Videos, url: str, content: bytes) -> str:
    number = int.from_bytes(os.urandom(8), "big")
    job = Job(id=f"an_{number:032x}", size_bytes=len(content), sha256=sha256(content).hexdigest(), created_ms=time.time_ns() // 1_000_000)
    videos.incoming(job.id).write_bytes(content)
    videos.accept(job)
    asked(url, lambda queue: queue.submit(job))
    return job.id


def ended(url: str, job_id: str) -> Job:
    deadline = time.monotonic() + PATIENCE_S
    while (job := asked(url, lambda queue: queue.get(job_id))).state not in FINAL_STATES:
        assert time.monotonic() < deadline, f"not in time: {job}"
        time.sleep(0.1)
    return job


def asked(url: str, question: Callable[[GatewayQueue], Awaitable[Answer]]) -> Answer:
    async def ask() -> Answer:
        queue = GatewayQueue(url)
        try:
            return await question(queue)
        finally:
            await queue.close()

    return asyncio.run(ask())

"""The whole stack, once for all tests here, and a client of it.

It serves the release that ships with the repository, or random weights while there is none.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.clip import make_clip
from deploy.stack import Stack, newest_release
from deploy.supervisor import StackError
from deploy.triton.server import TritonMissing, find_libpython, find_wheel
from shared import releases

JOB_TIMEOUT_S = 90
RAW = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, kw_only=True)
class Mien:
    """A client that knows nothing but the API, and the stack it talks to, to break parts of it."""

    stack: Stack
    http: httpx.Client
    shipped: bool
    """Whether the release is the one that ships, and its verdicts mean something."""

    @property
    def release(self) -> int:
        """The version that judges."""
        return releases.published(self.stack.models)[-1]

    def submit(self, video: bytes | Path, **options: float) -> httpx.Response:
        content = video.read_bytes() if isinstance(video, Path) else video
        return self.http.post("/v1/analyses", content=content, headers=RAW, params=options)

    def accepted(self, video: bytes | Path, **options: float) -> str:
        answer = self.submit(video, **options)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/analyses/{job_id}")
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record

    def final(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: job["state"] in {"succeeded", "failed", "canceled"})

    def until(self, job_id: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job's record, as soon as it is what it is waited for."""
        deadline_s = time.monotonic() + JOB_TIMEOUT_S
        while not true(job := self.job(job_id)):
            assert time.monotonic() < deadline_s, f"not in time: {job}"
            time.sleep(0.05)
        return job

    def result(self, job_id: str) -> dict[str, Any]:
        job = self.final(job_id)
        assert job["state"] == "succeeded", job
        answer = self.http.get(f"/v1/analyses/{job_id}/results")
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + JOB_TIMEOUT_S
        while (answer := self.stack.readiness()) is None or not answer.is_success:
            assert time.monotonic() < deadline_s, f"not ready: {answer and answer.text}"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def mien(tmp_path_factory: pytest.TempPathFactory, shared_random_release: Path) -> Iterator[Mien]:
    try:
        find_wheel(), find_libpython()
    except TritonMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    release = shipped_release() or shared_random_release
    with (
        Stack(home=tmp_path_factory.mktemp("stack"), release=release, announce=print) as stack,
        httpx.Client(base_url=stack.url, timeout=30) as http,
    ):
        yield Mien(stack=stack, http=http, shipped=release != shared_random_release)


def shipped_release() -> Path | None:
    try:
        return newest_release()
    except StackError:
        return None


@pytest.fixture
def worker_lives(mien: Mien) -> Iterator[None]:
    """Whatever the test does, the worker that was there before is there afterwards, and works."""
    before = mien.stack.programs.pid("worker")
    yield
    assert mien.stack.programs.pid("worker") == before
    assert Path(f"/proc/{before}").exists()


# --- clips of one face -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of one face."""
    path = tmp_path_factory.mktemp("clips") / "portrait.mp4"
    make_clip(path, seconds=2)
    return path


@pytest.fixture(scope="session")
def long_portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough frames that a worker can be caught, or a button pressed, in the middle of them."""
    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    make_clip(path, seconds=12)
    return path

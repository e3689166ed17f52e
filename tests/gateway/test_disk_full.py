"""Row D7: a disk that fills up, under the data folder or under Redis. Nothing is promised that is not there, and with the space comes
normal service."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.errors import InsufficientStorage
from shared.jobs import Failure, JobState, Timings
from shared.queue import Lease, WorkerQueue
from shared.videos import Videos
from tests.conftest import RedisServer
from tests.gateway.conftest import RAW, soon
from tests.gateway.processes import GatewayProcess, launched
from tests.gateway.results import result

MIB = 2**20
DISK = 16 * MIB
TUS = {"Tus-Resumable": "1.0.0"}
NORMAL_WITHIN_S = 40
"""Of a machine that is busy with other tests; the row says 10."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system takes root and a kernel that lets it")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def process(redis_url: str, disk: Path) -> Iterator[GatewayProcess]:
    with launched(redis_url=redis_url, data=disk / "data") as process:
        yield process


def fill(disk: Path, *, but: int) -> Path:
    """Take all space but so many bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - but))
    return ballast


def post(process: GatewayProcess, size: int) -> httpx.Response:
    return httpx.post(f"{process.url}/v1/analyses", content=b"v" * size, headers=RAW, trust_env=False, timeout=30)


def analyses(process: GatewayProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = httpx.get(f"{process.url}/v1/analyses", trust_env=False).json()["analyses"]
    return listed


def test_a_disk_that_fills_up_refuses_and_takes_again_when_there_is_space(process: GatewayProcess, disk: Path) -> None:
    kept = post(process, MIB)
    assert kept.status_code == 202
    ballast = fill(disk, but=2 * MIB)
    before = process.files()
    for _ in range(3):
        refused = post(process, 5 * MIB)
        assert (refused.status_code, refused.json()["code"]) == (507, "insufficient-storage")
        assert int(refused.headers["retry-after"]) > 0
        assert process.files() == before
    assert [one["id"] for one in analyses(process)] == [kept.json()["id"]]
    assert httpx.get(f"{process.url}/healthz", trust_env=False).status_code == 200
    ballast.unlink()
    again = post(process, 5 * MIB)
    assert again.status_code == 202
    assert Videos(process.data).video(again.json()["id"]).stat().st_size == 5 * MIB
    assert "traceback" not in process.output()


def test_with_no_byte_left_readiness_names_the_disk_and_nothing_is_half_there(process: GatewayProcess, disk: Path) -> None:
    ballast = fill(disk, but=0)
    before = process.files()
    assert post(process, MIB).status_code == 507
    ready = httpx.get(f"{process.url}/readyz", trust_env=False)
    assert (ready.status_code, ready.json()["checks"]["storage"]["ok"]) == (503, False)
    begun = httpx.post(f"{process.url}/v1/uploads", headers={**TUS, "Upload-Length": "1000"}, trust_env=False)
    assert begun.status_code == 507
    assert process.files() == before
    ballast.unlink()
    assert soon(lambda: httpx.get(f"{process.url}/readyz", trust_env=False).json()["checks"]["storage"]["ok"], within_s=10)


def test_a_resumable_upload_keeps_what_fitted_and_goes_on(process: GatewayProcess, disk: Path) -> None:
    video = os.urandom(6 * MIB)
    begun = httpx.post(f"{process.url}/v1/uploads", headers={**TUS, "Upload-Length": str(len(video))}, trust_env=False)
    here = f"{process.url}{begun.headers['location']}"

    def offset() -> int:
        return int(httpx.head(here, headers=TUS, trust_env=False).headers["upload-offset"])

    def send(at: int) -> httpx.Response:
        headers = {**TUS, "Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"}
        return httpx.patch(here, content=video[at:], headers=headers, trust_env=False, timeout=30)

    ballast = fill(disk, but=3 * MIB)
    refused = send(0)
    assert (refused.status_code, refused.json()["code"]) == (507, "insufficient-storage")
    at = offset()
    assert 0 < at <= 3 * MIB
    assert send(at).status_code == 507
    assert offset() >= at
    ballast.unlink()
    done = send(offset())
    assert done.status_code == 204
    assert Videos(process.data).video(done.headers["mien-analysis"].rpartition("/")[2]).read_bytes() == video
    assert len(analyses(process)) == 1


# --- the same disk, at the end of an analysis ------------------------------------------------------------------------


def test_a_result_that_does_not_fit_is_not_seen_by_half_and_comes_when_there_is_space(
    process: GatewayProcess, disk: Path, redis_url: str
) -> None:
    here = f"{process.url}{post(process, MIB).headers['location']}"
    videos = Videos(process.data)
    with closing(WorkerQueue(redis_url, backoff_s=0.1)) as worker:
        first = claimed(worker)
        found = result(first.job.id, 300)
        before = process.files()
        ballast = fill(disk, but=4096)
        with pytest.raises(InsufficientStorage) as refused:
            videos.write_result(found, first.token)
        assert process.files() == before, "nothing is left aside, either"
        seen = httpx.get(f"{here}/results", trust_env=False, timeout=30)
        assert (seen.status_code, seen.json()["code"]) == (409, "result-not-ready")
        assert worker.retry(first, Failure.of(refused.value)) == JobState.QUEUED
        ballast.unlink()
        second = claimed(worker)
        videos.write_result(found, second.token)
        assert worker.succeed(second, Timings(total=5))
    seen = httpx.get(f"{here}/results", params={"page_size": 1000}, trust_env=False, timeout=30)
    assert [len(track["timeline"]) for track in seen.json()["tracks"]] == [300]


def claimed(worker: WorkerQueue) -> Lease:
    """The next job, as soon as there is one."""
    leases: list[Lease] = []
    assert soon(lambda: bool(leases.extend(filter(None, [worker.claim()])) or leases), within_s=NORMAL_WITHIN_S)
    return leases[0]


# --- under Redis, which cannot write its log then, and ends itself rather than forget ----------------------------------


@contextmanager
def kept_running(server: RedisServer) -> Iterator[None]:
    """Start it whenever it has ended, as every way of deploying it does."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if not server.answers():
                server.kill()
                with suppress(AssertionError):  # it may not even start on a disk that is full
                    server.start()

    watcher = threading.Thread(target=watch)
    server.start()
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        server.kill()


def test_what_redis_cannot_write_down_is_not_promised(redis_program: Path, disk: Path, tmp_path: Path) -> None:
    server = RedisServer(redis_program, disk)
    with kept_running(server), launched(redis_url=server.url, data=tmp_path / "data") as process:
        promised = [post(process, 1000).json()["id"]]
        ballast = fill(disk, but=0)
        refused = []
        while len(refused) < 3:
            answer = post(process, 1000)
            if answer.status_code == 202:  # there was room for it in what the log had begun
                promised.append(answer.json()["id"])
            else:
                refused.append((answer.status_code, answer.json()["code"], answer.json().get("dependency")))
                assert int(answer.headers["retry-after"]) > 0
        assert set(refused) == {(503, "dependency-unavailable", "redis")}
        assert httpx.get(f"{process.url}/healthz", trust_env=False, timeout=30).status_code == 200
        ballast.unlink()
        posted: list[httpx.Response] = []

        def takes_again() -> bool:
            posted.append(post(process, 1000))
            return posted[-1].status_code == 202

        assert soon(takes_again, within_s=NORMAL_WITHIN_S)
        promised.append(posted[-1].json()["id"])
        assert sorted(one["id"] for one in analyses(process)) == sorted(promised)
        assert {name.split("/")[1] for name in process.files() if name.endswith("/video")} == set(promised)
        assert "traceback" not in process.output()

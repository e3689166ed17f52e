"""Row D7: a data folder on a disk that fills up. Nothing is promised that is not there, and with the space comes normal service."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.videos import Videos
from tests.gateway.conftest import RAW, soon
from tests.gateway.processes import GatewayProcess, launched

MIB = 2**20
DISK = 16 * MIB
TUS = {"Tus-Resumable": "1.0.0"}


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

"""The gateway as a process of its own."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import free_port
from tests.gateway.conftest import RAW, VIDEO, soon


@pytest.fixture
def process(redis_url: str, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "MIEN_REDIS_URL": redis_url,
        "MIEN_DATA": str(tmp_path / "data"),
        "MIEN_PORT": str(port),
        "MIEN_MAX_UPLOAD_BYTES": "1000",
    }
    command = [sys.executable, "-m", "services.gateway"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def test_the_environment_is_heeded_and_every_line_is_json(process: tuple["subprocess.Popen[str]", str]) -> None:
    running, url = process
    assert soon(lambda: alive(url), within_s=20)
    with httpx.Client(base_url=url, trust_env=False) as http:
        assert http.post("/v1/analyses", content=VIDEO, headers=RAW).status_code == 202
        assert http.post("/v1/analyses", content=b"x" * 1001, headers=RAW).json()["limit_bytes"] == 1000
        assert http.post("/v1/analyses", content=b"--", headers={"Content-Type": "multipart/form-data; boundary=b"}).status_code == 400
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate(timeout=10)
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    assert {line["service"] for line in lines} == {"gateway"}
    requests = [line for line in lines if line["event"] == "request" and line["method"] == "POST"]
    assert [(line["route"], line["status"]) for line in requests] == [("/v1/analyses", status) for status in (202, 413, 400)]
    assert "127.0.0.1" not in json.dumps([line for line in lines if line["logger"] != "uvicorn.error"])
    assert "traceback" not in output.lower()


def test_a_video_that_the_disk_takes_only_in_part_is_refused(process: tuple["subprocess.Popen[str]", str], tmp_path: Path) -> None:
    running, url = process
    assert soon(lambda: alive(url), within_s=20)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (900, 900))  # which, like a full disk, makes the last write a short one
    answer = httpx.post(f"{url}/v1/analyses", content=b"x" * 1000, headers=RAW, trust_env=False)
    assert (answer.status_code, answer.json()["dependency"]) == (503, "storage")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_heavy_is_imported() -> None:
    heavy = ["torch", "torchvision", "numpy", "av", "PIL", "tritonclient"]
    script = f"import sys, services.gateway.__main__; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip() == "[]"

"""What the gateway does while a large body comes in: how much memory it takes, how soon it answers others, and how fast it is beside
FastAPI's own way to take one."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from deploy.stack import Stack, free_ports
from tests.bench.figures import Figure

CHUNK = b"\x00" * 2**20
MOST_GROWTH_MIB = 32
MOST_WAIT_MS = 50
LEAST_MIB_PER_S = 100

# In a process of its own: this one is busy sending. Ends with its input.
PINGS = """
import select, sys, time
import httpx
waits_ms = []
with httpx.Client(base_url=sys.argv[1], trust_env=False, timeout=60) as http:
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = time.monotonic()
        http.get("/healthz").raise_for_status()
        waits_ms.append((time.monotonic() - began) * 1000)
print(sorted(waits_ms)[int(len(waits_ms) * 0.99)])
"""

UPLOAD_FILE_APP = """
import shutil, sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI, UploadFile
app = FastAPI()
@app.get("/")
def up(): return {}
@app.post("/")
def take(video: UploadFile):
    with open(Path(sys.argv[2]) / "video", "wb") as file:
        shutil.copyfileobj(video.file, file)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def run(home: Path, video: Path, *, gib: int = 1) -> list[Figure]:
    """Post so much raw and as a form to the gateway, and as a form to a FastAPI route with UploadFile."""
    size = gib * 2**30
    with Stack(home=home, announce=print) as stack:
        raw = Upload(url=f"{stack.url}/v1/analyses", pid=stack.programs.pid("gateway"), size=size)
        with pinged(stack.url) as wait_ms:
            raw.post(content=chunks(size), headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)})
        form = Upload(url=f"{stack.url}/v1/analyses", pid=stack.programs.pid("gateway"), size=size)
        form.post(content=form_body(size), headers=form_headers(size))
    with upload_file_app(home) as (url, pid):
        plain = Upload(url=url, pid=pid, size=size)
        plain.post(content=form_body(size), headers=form_headers(size))
    return [
        at_most(MOST_GROWTH_MIB, f"gateway's growth while {gib} GiB is posted raw", raw.growth_mib, "MiB"),
        at_most(MOST_GROWTH_MIB, f"gateway's growth while {gib} GiB is posted as a form", form.growth_mib, "MiB"),
        at_most(MOST_WAIT_MS, "p99 of others' waits for /healthz during the raw body", wait_ms[0], "ms"),
        at_least(LEAST_MIB_PER_S, "rate of the raw body", raw.mib_per_s, "MiB/s"),
        at_least(LEAST_MIB_PER_S, "rate of the form", form.mib_per_s, "MiB/s"),
        Figure(
            bench="upload",
            name="rate of the form, over FastAPI's UploadFile copied to a file",
            value=form.mib_per_s / plain.mib_per_s,
            unit="x",
        ),
    ]


def at_most(most: float, name: str, value: float, unit: str) -> Figure:
    return Figure(bench="upload", name=name, value=value, unit=unit, aim=f"at most {most} {unit}", reached=value <= most)


def at_least(least: float, name: str, value: float, unit: str) -> Figure:
    return Figure(bench="upload", name=name, value=value, unit=unit, aim=f"at least {least} {unit}", reached=value >= least)


@contextlib.contextmanager
def pinged(url: str) -> Iterator[list[float]]:
    """Asked every 20 ms whether it lives; the 99th percentile of the waits, in milliseconds, is there when the block has ended."""
    found: list[float] = []
    with subprocess.Popen([sys.executable, "-c", PINGS, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pings:
        yield found
        found.append(float(pings.communicate()[0]))


class Upload:
    """One body posted to one process, whose memory is watched meanwhile."""

    def __init__(self, *, url: str, pid: int, size: int) -> None:
        self._url = url
        self._size = size
        self._process = psutil.Process(pid)
        self.growth_mib = 0.0
        self.mib_per_s = 0.0

    def post(self, *, content: Iterator[bytes], headers: dict[str, str]) -> None:
        before = self._process.memory_info().rss
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(before, done))
        watcher.start()
        began = time.monotonic()
        try:
            httpx.post(self._url, content=content, headers=headers, timeout=300).raise_for_status()
        finally:
            self.mib_per_s = self._size / 2**20 / (time.monotonic() - began)
            done.set()
            watcher.join()

    def _watch(self, before: int, done: threading.Event) -> None:
        while not done.wait(0.01):
            self.growth_mib = max(self.growth_mib, (self._process.memory_info().rss - before) / 2**20)


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // len(CHUNK)):
        yield CHUNK


BOUNDARY = "mien-bench"
FORM_HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="video"; filename="v"\r\n\r\n'.encode()
FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def form_headers(size: int) -> dict[str, str]:
    return {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(FORM_HEAD) + size + len(FORM_TAIL)),
    }


def form_body(size: int) -> Iterator[bytes]:
    yield FORM_HEAD
    yield from chunks(size)
    yield FORM_TAIL


@contextlib.contextmanager
def upload_file_app(home: Path) -> Iterator[tuple[str, int]]:
    """The alternative, in a process of its own."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/"
    with subprocess.Popen([sys.executable, "-c", UPLOAD_FILE_APP, str(port), str(home)]) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(url)
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError("the UploadFile app did not start")
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.terminate()

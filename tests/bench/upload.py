"""How much memory the gateway takes while a large body comes in, beside FastAPI's own way to take one."""

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

BODY_BYTES = 2**30
CHUNK = b"\x00" * 2**20
MOST_GROWTH_MIB = 64

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


def run(home: Path, video: Path) -> list[Figure]:
    """Post 1 GiB raw and as a form to the gateway, and as a form to a FastAPI route with UploadFile."""
    with Stack(home=home, announce=print) as stack:
        raw = Upload(url=f"{stack.url}/v1/analyses", pid=stack.programs.pid("gateway"))
        raw.post(content=chunks(), headers={"Content-Type": "application/octet-stream", "Content-Length": str(BODY_BYTES)})
        form = Upload(url=f"{stack.url}/v1/analyses", pid=stack.programs.pid("gateway"))
        form.post(content=form_body(), headers=FORM_HEADERS)
    with upload_file_app(home) as (url, pid):
        plain = Upload(url=url, pid=pid)
        plain.post(content=form_body(), headers=FORM_HEADERS)
    return [
        figure("gateway's growth while 1 GiB is posted raw", raw.growth_mib, "MiB", limited=True),
        figure("gateway's growth while 1 GiB is posted as a form", form.growth_mib, "MiB", limited=True),
        figure("rate of the raw body", raw.mib_per_s, "MiB/s"),
        figure("rate of the form", form.mib_per_s, "MiB/s"),
        figure("rate of the form, over FastAPI's UploadFile copied to a file", form.mib_per_s / plain.mib_per_s, "x"),
    ]


def figure(name: str, value: float, unit: str, *, limited: bool = False) -> Figure:
    if not limited:
        return Figure(bench="upload", name=name, value=value, unit=unit)
    aim = f"under {MOST_GROWTH_MIB} MiB"
    return Figure(bench="upload", name=name, value=value, unit=unit, aim=aim, reached=value < MOST_GROWTH_MIB)


class Upload:
    """One body posted to one process, whose memory is watched meanwhile."""

    def __init__(self, *, url: str, pid: int) -> None:
        self._url = url
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
            self.mib_per_s = BODY_BYTES / 2**20 / (time.monotonic() - began)
            done.set()
            watcher.join()

    def _watch(self, before: int, done: threading.Event) -> None:
        while not done.wait(0.01):
            self.growth_mib = max(self.growth_mib, (self._process.memory_info().rss - before) / 2**20)


def chunks() -> Iterator[bytes]:
    for _ in range(BODY_BYTES // len(CHUNK)):
        yield CHUNK


BOUNDARY = "mien-bench"
FORM_HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="video"; filename="v"\r\n\r\n'.encode()
FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM_HEADERS = {
    "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    "Content-Length": str(len(FORM_HEAD) + BODY_BYTES + len(FORM_TAIL)),
}


def form_body() -> Iterator[bytes]:
    yield FORM_HEAD
    yield from chunks()
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

"""A gateway that is a process of its own, to be killed and started again over the same data."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.conftest import free_port
from tests.gateway.conftest import soon

STARTS_WITHIN_S = 120


class GatewayProcess:
    """`python -m services.gateway`, always on the same port."""

    def __init__(self, *, redis_url: str, data: Path, **settings: object) -> None:
        """settings: without their prefix, such as `max_upload_bytes=1000`."""
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        given = {"redis_url": redis_url, "data": data, "port": self.port, **settings}
        self.temporary = data.parent / f"{data.name}.tmp"
        """Its own folder for temporary files: whatever lies there, it has left."""
        self.temporary.mkdir(exist_ok=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.temporary),
            **{f"MIEN_{name.upper()}": str(value) for name, value in given.items()},
        }
        self._output = tempfile.TemporaryFile("a+b")  # noqa: SIM115 -- closed by `launched`
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """And wait until it answers."""
        command = [sys.executable, "-m", "services.gateway"]
        self._process = subprocess.Popen(command, env=self._environment, stdout=self._output, stderr=subprocess.STDOUT)
        assert soon(self.answers, within_s=STARTS_WITHIN_S), self.output()

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an orderly restart would."""
        self._end(signal.SIGTERM)

    def usage(self) -> psutil.Process:
        """To ask for memory, descriptors and processor time."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def output(self) -> str:
        """What it and its predecessors have written."""
        written = self._output.fileno()  # read without moving the place at which they write on
        return os.pread(written, os.fstat(written).st_size, 0).decode()

    def lines(self) -> list[dict[str, Any]]:
        """The same, line by line: each is JSON."""
        return [json.loads(line) for line in self.output().splitlines()]

    def files(self) -> list[str]:
        """Everything on the disk, by relative path."""
        return sorted(str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file())

    def close(self) -> None:
        self.kill()
        self._output.close()

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(timeout=60)
            self._process = None


def patiently(ask: Callable[[], httpx.Response], *, within_s: float = 120) -> httpx.Response:
    """What an honest client gets: told 503, as it is while Redis takes more than two seconds, it asks again when it was told to."""
    deadline = time.monotonic() + within_s
    while (answer := ask()).status_code == HTTPStatus.SERVICE_UNAVAILABLE and time.monotonic() < deadline:
        time.sleep(int(answer.headers["retry-after"]))
    return answer


@contextmanager
def launched(*, redis_url: str, data: Path, **settings: object) -> Iterator[GatewayProcess]:
    """A started one; whatever becomes of it, none is left."""
    process = GatewayProcess(redis_url=redis_url, data=data, **settings)
    try:
        process.start()
        yield process
    finally:
        process.close()

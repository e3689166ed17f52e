"""A real tritonserver for the tests: one for the whole run, and others for the tests that break theirs."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.triton.server import TritonMissing, find_libpython, find_wheel
from shared.releases import Release, load

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 15


@dataclass(frozen=True, kw_only=True)
class Triton:
    """A running server."""

    models: Path
    process: subprocess.Popen[bytes]
    grpc: str
    """host:port"""
    http: str
    """http://host:port"""
    metrics: str
    """http://host:port, for Prometheus."""
    log: Path

    def release(self, version: int = 1) -> Release:
        return load(self.models, version)

    def is_ready(self, model: str) -> bool:
        return httpx.get(f"{self.http}/v2/models/{model}/ready").status_code == httpx.codes.OK

    def stubs(self) -> list[psutil.Process]:
        """The processes that Triton runs the models in."""
        return psutil.Process(self.process.pid).children(recursive=True)


StartTriton = Callable[[Path], AbstractContextManager[Triton]]


@pytest.fixture(scope="session")
def start_triton(tmp_path_factory: pytest.TempPathFactory) -> StartTriton:
    """Starts a server of one's own for a model repository; skips where tritonserver cannot run, and fails there in CI."""
    try:
        find_wheel()
        find_libpython()
    except TritonMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    state = tmp_path_factory.mktemp("triton")

    @contextmanager
    def start(models: Path) -> Iterator[Triton]:
        grpc, http, metrics = free_ports(3)
        log = tmp_path_factory.mktemp("log") / "triton.log"
        ports = ["--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics)]
        command = [sys.executable, "-m", "deploy.triton", "--models", str(models), "--state", str(state), *ports]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        server = Triton(
            models=models,
            process=process,
            grpc=f"127.0.0.1:{grpc}",
            http=f"http://127.0.0.1:{http}",
            metrics=f"http://127.0.0.1:{metrics}",
            log=log,
        )
        try:
            wait_until_serving(server)
            yield server
        finally:
            stop(server)

    return start


@pytest.fixture(scope="session")
def triton(start_triton: StartTriton, shared_random_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """The run's own server, with release 1 of random weights. Tests may load models of other names, and unload them again."""
    from training.export import export

    models = tmp_path_factory.mktemp("models")
    export(shared_random_release, models)
    with start_triton(models) as server:
        yield server


def wait_until_serving(server: Triton) -> None:
    """Triton opens its ports when every model has been tried."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(f"{server.http}/v2/health/ready").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"tritonserver did not start:\n{server.log.read_text()[-4000:]}")


def stop(server: Triton) -> None:
    """End the server and whatever it leaves behind; a test that cares has looked before."""
    if server.process.poll() is not None:
        return
    stubs = server.stubs()
    server.process.terminate()
    try:
        server.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(STOP_TIMEOUT_S)
    _, left = psutil.wait_procs(stubs, STOP_TIMEOUT_S)
    for stub in left:
        stub.kill()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()

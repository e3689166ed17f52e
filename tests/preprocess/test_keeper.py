"""The worker's end of the keeper, when its process hangs or dies as it starts."""

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from services.preprocess.keeper import Keeper
from shared.jobs import Job
from shared.queue import Beat, GatewayQueue, Lease, WorkerQueue
from shared.redis_passwords import with_password
from tests.conftest import RedisServer

LEASE_S = 1.0
HANGS = [sys.executable, "-c", "import time; time.sleep(60)"]
DIES = [sys.executable, "-c", ""]

numbers = itertools.count(1)


@pytest.fixture
def queue(redis_url: str) -> Iterator[WorkerQueue]:
    queue = WorkerQueue(redis_url, lease_s=LEASE_S)
    yield queue
    queue.close()


@pytest.fixture
def lease(queue: WorkerQueue, redis_url: str) -> Lease:
    return claimed(queue, redis_url)


def claimed(queue: WorkerQueue, url: str) -> Lease:
    async def submit() -> None:
        gateway = GatewayQueue(url)
        await gateway.submit(Job(id=f"an_{next(numbers):032x}", size_bytes=1, sha256="0" * 64, created_ms=1))
        await gateway.close()

    asyncio.run(submit())
    lease = queue.claim()
    assert lease is not None
    return lease


def replaced(keeper: Keeper, command: list[str]) -> "subprocess.Popen[bytes]":
    """Kill the process; the next one, launched with this command."""
    first = keeper._process
    keeper._command = command
    first.kill()
    eventually(lambda: keeper._process is not first)
    return keeper._process


def eventually(seen: Callable[[], bool], *, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_hangs_as_it_starts_holds_up_neither_a_job_nor_the_end(redis_url: str, lease: Lease) -> None:
    with Keeper(redis_url=redis_url, lease_s=LEASE_S) as keeper:
        replaced(keeper, HANGS)
        began = time.monotonic()
        keeper.hold(lease)
        keeper.drop()
    assert time.monotonic() - began < 1
    assert keeper._process.poll() is not None


@pytest.mark.parametrize("broken", [HANGS, DIES], ids=["hangs", "dies"])
def test_the_one_after_it_keeps_the_lease(redis_url: str, queue: WorkerQueue, lease: Lease, broken: list[str]) -> None:
    with Keeper(redis_url=redis_url, lease_s=LEASE_S) as keeper:
        good, line = keeper._command, keeper._line
        keeper.hold(lease)
        keeper._starts_within_s = 0.3
        bad = replaced(keeper, broken)
        keeper._command = good
        eventually(lambda: keeper._process is not bad)
        keeper._starts_within_s = 20
        eventually(lambda: queue.beat(lease) == Beat.HELD and keeper._line is not line)
        time.sleep(LEASE_S * 2)
        assert queue.claim() is None


def test_a_process_that_stops_listening_holds_up_nobody_and_is_replaced(redis_url: str, queue: WorkerQueue, lease: Lease) -> None:
    with Keeper(redis_url=redis_url, lease_s=LEASE_S) as keeper:
        stopped, line = keeper._process, keeper._line
        stopped.send_signal(signal.SIGSTOP)
        jobs = threading.Thread(target=lambda: [keeper.hold(lease) for _ in range(2000)], daemon=True)
        jobs.start()
        jobs.join(30)
        assert not jobs.is_alive(), "what a socket holds is no more than a few hundred leases"
        eventually(lambda: queue.beat(lease) == Beat.HELD and keeper._line is not line, within_s=60)
        assert stopped.returncode == -signal.SIGKILL
        time.sleep(LEASE_S * 2)
        assert queue.claim() is None


@pytest.mark.parametrize("broken", [HANGS, DIES], ids=["hangs", "dies"])
def test_a_first_process_that_is_never_able_to_beat_is_an_error(redis_url: str, broken: list[str]) -> None:
    keeper = Keeper(redis_url=redis_url, lease_s=LEASE_S, starts_within_s=0.5)
    keeper._command = broken
    with pytest.raises((TimeoutError, ConnectionError)), keeper:
        raise AssertionError("it said that it is able to beat")
    assert keeper._process.poll() is not None


def test_the_password_of_redis_comes_from_a_file(redis_server: RedisServer, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("requirepass", "opens")
    (tmp_path / "password").write_text("opens")
    url = with_password(redis_server.url, tmp_path / "password")
    queue = WorkerQueue(url, lease_s=LEASE_S)
    lease = claimed(queue, url)
    with Keeper(redis_url=redis_server.url, redis_password_file=tmp_path / "password", lease_s=LEASE_S) as keeper:
        assert "opens" not in str(psutil.Process(keeper._process.pid).environ())
        keeper.hold(lease)
        time.sleep(LEASE_S * 2)
        assert queue.claim() is None
    queue.close()

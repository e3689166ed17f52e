"""Nothing that ended goes untold, whatever is killed: real gateways, killed with -9, and a receiver that notes all it gets."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.jobs import Timings
from shared.queue import WorkerQueue
from tests.conftest import free_port
from tests.gateway.conftest import RAW, VIDEO, soon
from tests.gateway.receiver import Receiver, receiving

ROOT = Path(__file__).parents[2]


class Process:
    """A gateway that can be killed, and started again where it was."""

    def __init__(self, redis_url: str, data: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "tests.gateway.gateway_program", str(self.port), redis_url, str(data)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, verify=False)  # noqa: S501
        assert soon(self._answers, within_s=30)

    def _answers(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.http.close()


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(redis_url, tmp_path / "data"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as receiver:
        yield receiver


def ended(gateway: Process, worker: WorkerQueue) -> str:
    """An analysis that has succeeded."""
    job: dict[str, Any] = gateway.http.post("/v1/analyses", content=VIDEO, headers=RAW).raise_for_status().json()
    lease = worker.claim()
    assert lease is not None
    assert worker.succeed(lease, Timings(total=1))
    return str(job["id"])


def test_a_gateway_killed_while_it_tells_tells_it_again_under_the_same_id(
    start: Callable[[], Process], receiver: Receiver, redis_url: str
) -> None:
    first, worker = start(), WorkerQueue(redis_url)
    first.http.post("/v1/webhooks", json={"url": receiver.url("hang")}).raise_for_status()
    job_id = ended(first, worker)
    assert receiver.gets(1), "the receiver has it, and does not answer"
    first.kill()
    second = start()
    assert receiver.gets(2, within_s=10)
    got = receiver.got()
    assert len({one["headers"]["webhook-id"] for one in got}) == 1
    assert {json.loads(one["body"])["data"]["id"] for one in got} == {job_id}
    second.kill()
    worker.close()


def test_an_end_without_a_gateway_is_told_by_the_next_one(start: Callable[[], Process], receiver: Receiver, redis_url: str) -> None:
    first, worker = start(), WorkerQueue(redis_url)
    first.http.post("/v1/webhooks", json={"url": receiver.url("200")}).raise_for_status()
    job_id = first.http.post("/v1/analyses", content=VIDEO, headers=RAW).raise_for_status().json()["id"]
    first.kill()
    lease = worker.claim()
    assert lease is not None
    worker.succeed(lease, Timings(total=1))
    start()
    assert receiver.gets(1)
    assert json.loads(receiver.got()[0]["body"])["data"]["id"] == job_id
    worker.close()


def test_however_often_gateways_are_killed_every_end_is_told(start: Callable[[], Process], receiver: Receiver, redis_url: str) -> None:
    worker, told = WorkerQueue(redis_url), set()
    gateway = start()
    gateway.http.post("/v1/webhooks", json={"url": receiver.url("503/200/503/200")}).raise_for_status()
    for _ in range(3):
        told |= {ended(gateway, worker) for _ in range(4)}
        time.sleep(0.05)
        gateway.kill()
        gateway = start()
    assert soon(lambda: {json.loads(one["body"])["data"]["id"] for one in receiver.got()} == told, within_s=20)
    names: dict[str, set[str]] = {}
    for one in receiver.got():
        names.setdefault(json.loads(one["body"])["data"]["id"], set()).add(one["headers"]["webhook-id"])
    assert all(len(ids) == 1 for ids in names.values()), "one id for each event, however often it came"
    assert len(Counter(next(iter(ids)) for ids in names.values())) == len(told)
    worker.close()


def test_two_gateways_tell_each_end_once(start: Callable[[], Process], receiver: Receiver, redis_url: str) -> None:
    first, second, worker = start(), start(), WorkerQueue(redis_url)
    first.http.post("/v1/webhooks", json={"url": receiver.url("200")}).raise_for_status()
    told = {ended(gateway, worker) for gateway in (first, second) * 5}
    assert receiver.gets(10)
    time.sleep(0.5)
    got = [json.loads(one["body"])["data"]["id"] for one in receiver.got()]
    assert sorted(got) == sorted(told)
    worker.close()

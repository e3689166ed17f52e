"""Row F6: the wall clock of Redis's machine jumps by an hour while jobs run. None ends twice, and none is stuck."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from shared.deliveries import Claimed, Deliveries, NewDelivery
from shared.errors import InferenceUnavailable, StorageError
from shared.jobs import Failure, JobState, Timings
from shared.queue import Beat, Lease, WorkerQueue
from shared.redis_users import USERS, url_of
from tests.conftest import HOST, RedisServer, missing
from tests.shared.conftest import Gateway, claimed, new_job

HOUR_S = 3600
LEASE_S = 0.5
WITHIN_S = 20.0
SHIFT = Path(__file__).with_name("clock_shift.c")

Jump = Callable[[int], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or missing("no C compiler to make what sets another program's clock: install Debian's gcc and libc6-dev")
    library = tmp_path_factory.mktemp("clock") / "shift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIFT, "-ldl"], check=True)
    return library


@pytest.fixture
def jump(tmp_path: Path) -> Jump:
    """Set the clock of Redis this far from the true one, in seconds."""

    def to(seconds: int) -> None:
        (tmp_path / "aside").write_text(str(seconds))
        (tmp_path / "aside").rename(tmp_path / "shift")

    return to


@pytest.fixture
def clocked(redis_program: Path, library: Path, tmp_path: Path, jump: Jump, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A Redis with such a clock, and with the users that serve."""
    jump(0)
    (tmp_path / "redis").mkdir()
    server = RedisServer(redis_program, tmp_path / "redis")
    with monkeypatch.context() as patched:
        patched.setenv("LD_PRELOAD", str(library))
        patched.setenv("CLOCK_SHIFT", str(tmp_path / "shift"))
        server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for name, user in USERS.items():
                client.execute_command("ACL", "SETUSER", name, *user.rules(name).split())
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_url(clocked: RedisServer) -> str:
    return url_of("gateway", "gateway", host=HOST, port=clocked.port)


@pytest.fixture
def worker_url(clocked: RedisServer) -> str:
    return url_of("worker", "worker", host=HOST, port=clocked.port)


def soon_claimed(queue: WorkerQueue) -> Lease:
    deadline = time.monotonic() + WITHIN_S
    while (lease := queue.claim()) is None:
        assert time.monotonic() < deadline, "stuck"
        time.sleep(0.05)
    return lease


both_ways = pytest.mark.parametrize("jumped_s", [HOUR_S, -HOUR_S])


@both_ways
def test_a_job_whose_holder_lives_ends_once(gateway: Gateway, worker: WorkerQueue, other: WorkerQueue, jump: Jump, jumped_s: int) -> None:
    gateway.submit(job := new_job())
    lease = claimed(worker)
    jump(jumped_s)
    beat = worker.beat(lease)  # before anybody looks for one that is silent
    assert beat == Beat.HELD
    assert other.claim() is None
    assert worker.succeed(lease, Timings(total=5))
    assert other.claim() is None
    assert gateway.get(job.id).state == JobState.SUCCEEDED


def test_a_jump_forward_may_take_a_job_from_its_holder_and_the_first_result_counts(
    gateway: Gateway, worker: WorkerQueue, other: WorkerQueue, jump: Jump
) -> None:
    gateway.submit(job := new_job())
    first = claimed(worker)
    jump(HOUR_S)
    second = soon_claimed(other)
    assert second.attempt == 2
    assert worker.beat(first) == Beat.LOST
    assert other.succeed(second, Timings(total=5))
    assert not worker.succeed(first, Timings(total=5))
    assert gateway.get_with_result(job.id)[1] == second.token


@both_ways
def test_a_job_whose_holder_has_died_is_not_stuck(
    gateway: Gateway, worker: WorkerQueue, other: WorkerQueue, jump: Jump, jumped_s: int
) -> None:
    gateway.submit(new_job())
    claimed(worker)
    jump(jumped_s)
    assert soon_claimed(other).attempt == 2


def test_the_beat_of_another_job_does_not_hide_that_the_clock_was_set_back(
    gateway: Gateway, worker: WorkerQueue, other: WorkerQueue, jump: Jump
) -> None:
    dead, alive = new_job(), new_job()
    gateway.submit(dead)
    gateway.submit(alive)
    claimed(worker)
    held = claimed(other)
    jump(-HOUR_S)
    deadline = time.monotonic() + WITHIN_S
    assert other.beat(held) == Beat.HELD
    while (taken := worker.claim()) is None:
        assert time.monotonic() < deadline, "stuck"
        assert other.beat(held) == Beat.HELD
        time.sleep(0.05)
    assert taken.job.id == dead.id


@both_ways
def test_a_job_that_waits_for_its_next_try_is_not_stuck(gateway: Gateway, worker: WorkerQueue, jump: Jump, jumped_s: int) -> None:
    gateway.submit(new_job())
    worker.retry(claimed(worker), Failure.of(StorageError()))
    jump(jumped_s)
    assert soon_claimed(worker).attempt == 2


@both_ways
def test_a_job_that_waits_for_a_model_waits_no_longer(gateway: Gateway, worker: WorkerQueue, jump: Jump, jumped_s: int) -> None:
    away = Failure.of(InferenceUnavailable())
    gateway.submit(job := new_job())
    assert worker.postpone(claimed(worker), away, deadline_s=2 * HOUR_S) == JobState.QUEUED
    jump(jumped_s)
    assert worker.postpone(soon_claimed(worker), away, deadline_s=2 * HOUR_S) == JobState.QUEUED
    time.sleep(0.2)
    assert worker.postpone(soon_claimed(worker), away, deadline_s=0.1) == JobState.FAILED
    assert gateway.get(job.id).failure == away


@both_ways
def test_a_webhook_that_is_to_be_tried_again_is(gateway: Gateway, worker: WorkerQueue, redis_url: str, jump: Jump, jumped_s: int) -> None:
    async def tried_again() -> Claimed:
        deliveries = Deliveries(redis_url)
        try:
            await deliveries.test(NewDelivery(id="msg_1", webhook="wh_1", type="test", payload="{}"))
            assert await deliveries.claim("first", lease_s=LEASE_S)
            jump(jumped_s)
            worker.beat(lease)
            deadline = time.monotonic() + WITHIN_S
            while (found := await deliveries.claim("second", lease_s=60)) is None:
                assert time.monotonic() < deadline, "stuck"
                await asyncio.sleep(0.05)
            return found
        finally:
            await deliveries.close()

    gateway.submit(new_job())
    lease = claimed(worker)
    assert asyncio.run(tried_again()).tries == 2


def test_a_clock_that_was_set_back_is_put_right_once(gateway: Gateway, new_worker: Callable[..., WorkerQueue], jump: Jump) -> None:
    patient = new_worker(backoff_s=600)
    gateway.submit(new_job())
    patient.retry(claimed(patient), Failure.of(StorageError()))
    jump(-HOUR_S)
    assert [patient.claim() for _ in range(3)] == [None] * 3, "it is not ten minutes later by now"

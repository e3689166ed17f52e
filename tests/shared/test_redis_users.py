"""Users of Redis: each does its work as that user, and nothing else; a real Redis decides."""

import asyncio
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from services.web.limits import PerDay
from shared import redis_users
from shared.deliveries import Deliveries, NewDelivery
from shared.errors import JobNotFound, QueueUnavailable
from shared.jobs import Progress, Timings
from shared.queue import CHAMPION, GatewayQueue, WorkerQueue
from shared.queue_upkeep import UpkeepQueue
from shared.redis_users import SCRIPTED, USERS, acl_file, url_of
from tests.conftest import HOST, free_port
from tests.shared.conftest import new_job

FORBIDDEN = [
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "CONFIG SET dir /tmp",
    "CONFIG REWRITE",
    "CONFIG RESETSTAT",
    "DEBUG SLEEP 0",
    "DEBUG OBJECT mien:number",
    "MODULE LIST",
    "MODULE LOAD /tmp/x.so",
    "REPLICAOF NO ONE",
    "SLAVEOF NO ONE",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "LASTSAVE",
    "SHUTDOWN NOSAVE",
    "ACL LIST",
    "ACL WHOAMI",
    "ACL SETUSER default on",
    "ACL GETUSER gateway",
    "ACL LOAD",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1",
    "MONITOR",
    "SLOWLOG GET",
    "LATENCY DOCTOR",
    "MEMORY STATS",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "SWAPDB 0 1",
    "MIGRATE x 1 y 0 1",
    "RESTORE mien:x 0 x",
    "DUMP mien:number",
    "RENAME mien:number x",
    "OBJECT ENCODING mien:number",
    "PUBLISH a b",
    "SUBSCRIBE a",
    "PSUBSCRIBE *",
    "SORT mien:turns",
    "COMMAND COUNT",
    "WAIT 0 1",
    "PSYNC ? -1",
    "CLUSTER INFO",
    "FAILOVER",
    "TOUCH mien:number",
]
"""More than forty commands that none of the services needs."""


@pytest.fixture(scope="module")
def passwords() -> dict[str, str]:
    return {name: secrets.token_urlsafe(32) for name in USERS}


@pytest.fixture(scope="module")
def port(redis_program: Path, passwords: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("redis")
    (folder / "users.acl").write_text(acl_file(passwords))
    assert not [password for password in passwords.values() if password in (folder / "users.acl").read_text()]
    port = free_port()
    settings = ["--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", "", "--aclfile", str(folder / "users.acl")]
    with subprocess.Popen([redis_program, *settings], stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis.from_url(url_of("health", passwords["health"], host=HOST, port=port)) as client:
                while not answers(client):
                    assert server.poll() is None, "the users are not ones that this Redis knows"
                    time.sleep(0.02)
            yield port
        finally:
            server.kill()


@pytest.fixture
def urls(port: int, passwords: dict[str, str]) -> dict[str, str]:
    return {name: url_of(name, password, host=HOST, port=port) for name, password in passwords.items()}


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def refused(url: str, *command: str) -> bool:
    """Whether Redis says that this user may not."""
    with redis.Redis.from_url(url) as client:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
        except redis.ResponseError as error:
            return any(words in str(error) for words in ("NOPERM", "can't run this command", "can't access"))
    return False


# --- what they do -----------------------------------------------------------------------------------------------------


def test_a_job_goes_all_its_way_with_each_service_as_its_own_user(urls: dict[str, str]) -> None:
    async def ask() -> None:
        gateway, limit = GatewayQueue(urls["gateway"]), PerDay(5, redis_url=urls["gateway"])
        worker, training = WorkerQueue(urls["worker"]), GatewayQueue(urls["training"])
        try:
            worker.setup()
            assert not (await limit.spend("public")).is_exceeded
            job = new_job()
            await gateway.require_room("public")
            async with gateway.answering("0" * 64):
                await gateway.submit(job)
            assert worker.default_alias(CHAMPION, 1) == 1
            lease = worker.claim()
            assert lease is not None
            worker.wait(0.01)
            worker.pin(lease, 1)
            worker.beat(lease)
            worker.report(lease, Progress())
            assert worker.succeed(lease, Timings(total=5))
            assert (await gateway.get(job.id)).state == "succeeded"
            assert len((await gateway.list()).jobs) == 1
            assert await gateway.unsafe_settings()
            await gateway.depth()
            await gateway.delete(job.id)
            with pytest.raises(JobNotFound):
                await gateway.get(job.id)
            assert await training.alias(CHAMPION) == 1
        finally:
            for queue in (gateway, training, limit):
                await queue.close()
            worker.close()

    asyncio.run(ask())


def test_what_is_past_its_time_is_forgotten_by_who_may_and_stops_no_worker(urls: dict[str, str]) -> None:
    async def told() -> int:
        gateway, deliveries = GatewayQueue(urls["gateway"]), Deliveries(urls["gateway"])
        try:
            await gateway.submit(job)
            await gateway.cancel(job.id)
            await deliveries.announce(job.id, [NewDelivery(id="msg_1", webhook="wh_1", type="analysis.canceled", payload="{}")])
            with redis.Redis.from_url(urls["gateway"]) as client:
                client.zadd("mien:expires", {f"{job.created_ms:013d} {job.id}": 0})
            assert worker.claim() is None
            upkeep.ended(ago_s=0)
            return len(await deliveries.list("wh_1", limit=10))
        finally:
            await gateway.close()
            await deliveries.close()

    job, worker, upkeep = new_job(), WorkerQueue(urls["worker"]), UpkeepQueue(urls["gateway"])
    try:
        assert asyncio.run(told()) == 0
    finally:
        worker.close()
        upkeep.close()


def test_what_publishing_does_to_the_aliases_the_training_service_may_do(urls: dict[str, str]) -> None:
    aliases = WorkerQueue(urls["training"])
    try:
        aliases.promote("shadow", 1)
        aliases.promote("shadow", 2)
        assert aliases.alias("shadow") == 2
        assert aliases.alias_history("shadow")
        aliases.rollback("shadow")
        assert aliases.alias("shadow") == 1
    finally:
        aliases.close()


def test_whatever_the_scripts_call_may_be_called() -> None:
    scripts = "".join(path.read_text() for path in Path(redis_users.__file__).parent.glob("*.lua"))
    called = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", scripts)}
    assert len(called) > 30
    assert called - set(SCRIPTED) == set()


# --- what they may not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(USERS))
def test_nothing_else(urls: dict[str, str], name: str) -> None:
    assert len(FORBIDDEN) > 40
    assert [command for command in FORBIDDEN if not refused(urls[name], *command.split())] == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("gateway", "SET other 1"),
        ("gateway", "GET other"),
        ("worker", "GET mien:limits:x"),
        ("worker", "HGETALL mien:delivery:x"),
        ("worker", "CONFIG GET dir"),
        ("training", "HGETALL mien:job:x"),
        ("training", "XADD mien:leases * a b"),
        ("training", "XREAD COUNT 1 STREAMS mien:arrivals 0"),
        ("health", "GET mien:number"),
        ("health", "INFO"),
    ],
)
def test_keys_and_settings_of_others_are_not_theirs(urls: dict[str, str], name: str, command: str) -> None:
    assert refused(urls[name], *command.split())


def test_a_script_may_do_no_more_than_its_user(urls: dict[str, str]) -> None:
    for command in ("redis.call('FLUSHALL')", "redis.call('GET', 'other')", "redis.call('KEYS', '*')"):
        for name in ("gateway", "worker", "training"):
            assert refused(urls[name], "EVAL", f"return {command}", "0"), (name, command)


def test_who_has_no_password_gets_nowhere(port: int, passwords: dict[str, str]) -> None:
    with redis.Redis(host=HOST, port=port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    wrong = url_of("gateway", passwords["worker"], host=HOST, port=port)
    with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    worker = WorkerQueue(wrong)
    with pytest.raises(QueueUnavailable):
        worker.setup()
    worker.close()

"""The gateway keeps what was accepted, and removes what is past its time, by itself."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from services.gateway.metrics import Metrics
from services.gateway.retention import Retention
from services.gateway.uploads import UploadLimits
from shared.videos import Videos
from tests.gateway.conftest import MAX_BYTES, VIDEO, Gateway, running, soon
from tests.gateway.results import result

MINUTE_MS, DAY_MS = 60_000, 24 * 3600 * 1000


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def later(raw: redis.Redis, gateway: Gateway, ms: int) -> None:
    """Let time go by: every moment that is written down, in Redis, in records and on files, lies that much further back."""
    for record in raw.keys("mien:job:*"):
        if raw.hget(record, "ended_ms"):
            raw.hincrby(record, "ended_ms", -ms)
    for path in gateway.data.rglob("*"):
        at = path.stat().st_mtime - ms / 1000
        os.utime(path, (at, at))
    # Last, since from here on upkeep that is at it acts on it.
    for key in ("mien:ended", "mien:expires"):
        for member, at in raw.zrange(key, 0, -1, withscores=True):
            raw.zadd(key, {member: at - ms})


def tended(gateway: Gateway, raw: redis.Redis, until: Callable[[], bool]) -> bool:
    """Whether upkeep that is in a hurry leads there."""

    async def tend() -> bool:
        retention = Retention(url_of(raw), Videos(gateway.data), Metrics(), queues_within_s=0)
        async with going_on(retention.run(tidy_every_s=0.02, look_every_s=0.02)):
            return await asyncio.to_thread(soon, until)

    return asyncio.run(tend())


@asynccontextmanager
async def going_on(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def url_of(raw: redis.Redis) -> str:
    settings = raw.connection_pool.connection_kwargs
    return f"redis://{settings['host']}:{settings['port']}/{settings['db']}"


def ended(gateway: Gateway, **options: str) -> str:
    """The id of an analysis that has succeeded."""
    posted = gateway.post(**options)
    gateway.succeed(result(posted["id"], 2))
    return str(posted["id"])


def ended_by_tus(gateway: Gateway, **options: str) -> str:
    """The same, by the other road."""
    metadata = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in options.items())
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    said = {**headers, "Upload-Length": str(len(VIDEO)), "Upload-Metadata": metadata}
    upload = gateway.http.post("/v1/uploads", content=VIDEO, headers=said).raise_for_status().json()
    job_id = str(upload["analysis"]).rpartition("/")[2]
    gateway.succeed(result(job_id, 2))
    return job_id


def a_week_after_the_end(gateway: Gateway, raw: redis.Redis, job_id: str) -> None:
    """Of a job whose folder was tidied: the end that is written there lies back as far, too."""
    ended_ms = int(raw.hget(f"mien:job:{job_id}", "ended_ms") or 0)
    end = gateway.data / "analyses" / job_id / "end.json"
    end.write_text(end.read_text().replace(str(ended_ms), str(ended_ms - 7 * DAY_MS)))
    later(raw, gateway, 7 * DAY_MS)


def names(gateway: Gateway, job_id: str) -> set[str]:
    return {path.name.partition("-")[0] for path in (gateway.data / "analyses" / job_id).iterdir()}


def test_a_video_is_gone_within_five_minutes_of_the_end_and_the_result_is_not(gateway: Gateway, raw: redis.Redis) -> None:
    job_id, waiting = ended(gateway), gateway.post()["id"]
    later(raw, gateway, 5 * MINUTE_MS)
    assert tended(gateway, raw, lambda: "video" not in names(gateway, job_id))
    assert "result" in names(gateway, job_id)
    assert gateway.get(f"/v1/analyses/{job_id}/results")["id"] == job_id
    assert "video" in names(gateway, waiting), "which is still to be analysed"


def test_after_seven_days_no_byte_is_left_and_the_id_is_gone(gateway: Gateway, raw: redis.Redis) -> None:
    job_id = ended(gateway)
    later(raw, gateway, MINUTE_MS * 2)
    assert tended(gateway, raw, lambda: "end.json" in names(gateway, job_id))
    a_week_after_the_end(gateway, raw, job_id)
    assert tended(gateway, raw, lambda: not gateway.files())
    answer = gateway.http.get(f"/v1/analyses/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert gateway.get("/v1/analyses")["analyses"] == []


@pytest.mark.parametrize("road", [ended, ended_by_tus])
def test_a_video_that_was_asked_to_be_kept_goes_with_its_result(gateway: Gateway, raw: redis.Redis, road: Callable[..., str]) -> None:
    kept, other = road(gateway, keep_video="true"), road(gateway, keep_video="false")
    later(raw, gateway, 5 * MINUTE_MS)
    assert tended(gateway, raw, lambda: "end.json" in names(gateway, kept) and "video" not in names(gateway, other))
    assert {"video", "result"} < names(gateway, kept)
    assert gateway.get(f"/v1/analyses/{kept}")["options"]["keep_video"] is True
    a_week_after_the_end(gateway, raw, kept)
    assert tended(gateway, raw, lambda: not (gateway.data / "analyses" / kept).exists())


def test_a_kept_video_is_deleted_on_request(gateway: Gateway, raw: redis.Redis) -> None:
    job_id = ended(gateway, keep_video="true")
    later(raw, gateway, 5 * MINUTE_MS)
    assert tended(gateway, raw, lambda: "end.json" in names(gateway, job_id))
    receipt = gateway.http.delete(f"/v1/analyses/{job_id}").json()
    assert receipt["removed"]["video"] == len(VIDEO)
    assert gateway.files() == []


def test_an_upload_that_broke_off_is_gone_after_a_day(gateway: Gateway, raw: redis.Redis) -> None:
    (gateway.data / "incoming" / f"an_{'1' * 32}").write_bytes(b"half of it")
    later(raw, gateway, DAY_MS - MINUTE_MS)
    assert tended(gateway, raw, lambda: len(gateway.files()) == 1)
    later(raw, gateway, 2 * MINUTE_MS)
    assert tended(gateway, raw, lambda: not gateway.files())


def test_what_a_lost_redis_was_told_it_is_told_again(gateway: Gateway, raw: redis.Redis) -> None:
    jobs = [ended(gateway), gateway.post()["id"], gateway.post()["id"]]

    async def lose_and_find() -> bool:
        retention = Retention(url_of(raw), Videos(gateway.data), Metrics(), queues_within_s=0)
        async with going_on(retention.run(look_every_s=0.02)):
            assert await asyncio.to_thread(soon, lambda: raw.exists("mien:generation") == 1)
            await asyncio.to_thread(raw.flushall)
            return await asyncio.to_thread(soon, lambda: len(gateway.get("/v1/analyses")["analyses"]) == len(jobs))

    assert asyncio.run(lose_and_find())
    assert [gateway.get(f"/v1/analyses/{job_id}")["state"] for job_id in jobs] == ["succeeded", "queued", "queued"]


def test_a_gateway_that_starts_tells_redis_what_it_finds(redis_url: str, raw: redis.Redis, tmp_path: Path) -> None:
    limits = UploadLimits(max_bytes=MAX_BYTES)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=limits) as gateway:
        jobs = [gateway.post()["id"] for _ in range(3)]
    raw.flushall()
    with running(redis_url=redis_url, data=tmp_path / "data", limits=limits) as gateway:
        assert soon(lambda: len(gateway.get("/v1/analyses")["analyses"]) == len(jobs))
        assert {gateway.claim().job.id for _ in jobs} == set(jobs)
        assert 'mien_gateway_upkeep_jobs_total{done="restored"} 3.0' in gateway.http.get("/metrics").text


def test_upkeep_waits_for_a_redis_that_is_away_and_goes_on(frail_gateway: Gateway, redis_server: Any) -> None:
    job_id = ended(frail_gateway)
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as raw:
        later(raw, frail_gateway, 5 * MINUTE_MS)
        redis_server.kill()

        async def outage() -> bool:
            retention = Retention(redis_server.url, Videos(frail_gateway.data), Metrics())
            async with going_on(retention.run(tidy_every_s=0.02, look_every_s=0.02)):
                await asyncio.sleep(0.3)
                assert "video" in names(frail_gateway, job_id)
                await asyncio.to_thread(redis_server.start)
                return await asyncio.to_thread(soon, lambda: "video" not in names(frail_gateway, job_id), within_s=10)

        assert asyncio.run(outage())

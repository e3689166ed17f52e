"""An analysis followed by server-sent events: nothing missed, nothing twice, wherever the connection breaks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi.routing
import pytest
import redis

from services.gateway import watching
from services.gateway.events import LAST_PLACE, Told
from services.gateway.uploads import UploadLimits
from services.web.guard import Guard
from shared.errors import MediaNoVideoStream
from shared.jobs import Failure, Progress, Stage, Timings
from shared.keys import Purpose, Role
from shared.queue import Lease
from shared.queue_upkeep import UpkeepQueue
from shared.upkeep import reconcile
from shared.videos import Videos
from tests.gateway.conftest import MAX_BYTES, RAW, VIDEO, Gateway, running, soon, wait_until
from tests.gateway.followers import Follower
from tests.gateway.results import result
from tests.gateway.test_windows import finished
from tests.web.callers import bearer, callers

Follow = Callable[..., Follower]


@pytest.fixture
def follow(gateway: Gateway) -> Iterator[Follow]:
    followers: list[Follower] = []

    def start(job_id: str, *, at: Gateway = gateway, last_id: str = "") -> Follower:
        followers.append(Follower(f"{at.service.url}/v1/analyses/{job_id}/events", last_id=last_id))
        return followers[-1]

    yield start
    for follower in followers:
        follower.leave()


def report(gateway: Gateway, lease: Lease, frames_done: int) -> None:
    gateway.worker.report(lease, Progress(stage=Stage.ANALYSING, frames_done=frames_done, percent=frames_done))


def show(gateway: Gateway, lease: Lease, *windows: Any) -> None:
    Videos(gateway.data).add_windows(lease.job.id, lease.attempt, windows)


def complete(gateway: Gateway, lease: Lease, *windows_of_tracks: int) -> None:
    Videos(gateway.data).write_result(result(lease.job.id, *windows_of_tracks), lease.token)
    assert gateway.worker.succeed(lease, Timings(total=5))


def windows_told(*followers: Follower) -> list[tuple[str, int]]:
    return [(one["track_id"], one["start_ms"]) for follower in followers for page in follower.named("windows") for one in page["windows"]]


# --- what is told ----------------------------------------------------------------------------------------------------


def test_the_record_comes_first_then_every_change_and_at_last_the_end(gateway: Gateway, follow: Follow) -> None:
    job_id = gateway.post()["id"]
    follower = follow(job_id)
    assert follower.hears("analysis")
    assert follower.named("analysis") == [gateway.get(f"/v1/analyses/{job_id}")], "the same as polling says"
    lease = gateway.claim()
    assert follower.hears("analysis", 2)
    report(gateway, lease, 7)
    assert follower.hears("analysis", 3)
    show(gateway, lease, *finished(3))
    assert follower.hears("windows")
    assert follower.named("windows")[0]["windows"] == gateway.get(f"/v1/analyses/{job_id}/windows")["windows"]
    complete(gateway, lease, 3)
    assert follower.ends()
    states = [(one["state"], one["progress"]["frames_done"]) for one in follower.named("analysis")]
    assert states == [("queued", 0), ("running", 0), ("running", 7), ("succeeded", 7)]
    assert follower.named("analysis")[-1] == gateway.get(f"/v1/analyses/{job_id}")
    assert [event.name for event in follower.events][-2:] == ["analysis", "end"]
    assert follower.named("end") == [{"id": job_id, "state": "succeeded"}]
    assert len(windows_told(follower)) == 3


def test_it_is_an_event_stream_that_no_proxy_keeps(gateway: Gateway, follow: Follow) -> None:
    follower = follow(gateway.post()["id"])
    assert follower.hears("analysis")
    assert follower.headers["content-type"].startswith("text/event-stream")
    assert follower.headers["x-accel-buffering"] == "no"
    assert follower.headers["cache-control"] in {"no-cache", "no-store"}


def test_ids_only_grow(gateway: Gateway, follow: Follow) -> None:
    follower = follow(gateway.post()["id"])
    lease = gateway.claim()
    for count in range(1, 6):
        report(gateway, lease, count)
        show(gateway, lease, *finished(count)[-1:])
        assert follower.hears("windows", count)
    complete(gateway, lease, 5)
    assert follower.ends()
    ids = [Told.parse(event.id) for event in follower.events]
    order = [(told.revision, told.place, told.is_all) for told in ids]
    assert order == sorted(set(order))


def test_whoever_comes_late_gets_all_that_is_there(gateway: Gateway, follow: Follow) -> None:
    job_id = gateway.post()["id"]
    lease = gateway.claim()
    show(gateway, lease, *finished(3, 2))
    complete(gateway, lease, 3, 2)
    follower = follow(job_id)
    assert follower.ends()
    assert [event.name for event in follower.events] == ["analysis", "windows", "end"]
    assert len(set(windows_told(follower))) == len(windows_told(follower)) == 5


@pytest.mark.parametrize("how", ["canceled", "failed"])
def test_other_ends_are_told_too(gateway: Gateway, follow: Follow, how: str) -> None:
    job_id = gateway.post()["id"]
    follower = follow(job_id)
    if how == "canceled":
        gateway.http.post(f"/v1/analyses/{job_id}:cancel").raise_for_status()
    else:
        gateway.worker.fail(gateway.claim(), Failure.of(MediaNoVideoStream("streams found: audio")))
    assert follower.ends()
    assert follower.named("end") == [{"id": job_id, "state": how}]


def test_a_deleted_analysis_ends_with_saying_so(gateway: Gateway, follow: Follow) -> None:
    job_id = gateway.post()["id"]
    follower = follow(job_id)
    assert follower.hears("analysis")
    gateway.http.delete(f"/v1/analyses/{job_id}").raise_for_status()
    assert follower.ends()
    assert follower.named("deleted") == [{"id": job_id}]
    after = follow(job_id, last_id=follower.events[0].id)
    assert after.ends()
    assert after.status == 410


def test_silence_is_broken_by_a_comment(gateway: Gateway, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fastapi.routing._PING_INTERVAL == 15
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.2)
    follower = follow(gateway.post()["id"])
    assert soon(lambda: len(follower.comments) >= 2)
    assert follower.comments[0] == ": ping"


# --- nothing missed, nothing twice -----------------------------------------------------------------------------------


def test_reading_on_from_any_event_gives_what_followed_and_no_more(gateway: Gateway, follow: Follow) -> None:
    job_id = gateway.post()["id"]
    whole = follow(job_id)
    lease = gateway.claim()
    windows = finished(4, 2)
    for number, one in enumerate(windows, start=1):
        report(gateway, lease, number)
        show(gateway, lease, one)
        assert whole.hears("windows", number)
    complete(gateway, lease, 4, 2)
    assert whole.ends()
    everything = windows_told(whole)
    assert len(set(everything)) == len(everything) == len(windows)
    for number, event in enumerate(whole.events[:-1]):
        again = follow(job_id, last_id=event.id)
        assert again.ends()
        before = [one for seen in whole.events[: number + 1] if seen.name == "windows" for one in seen.data["windows"]]
        assert len(before) + len(windows_told(again)) == len(windows), event.id
        told_the_end = Told.parse(event.id).revision == Told.parse(whole.last_id).revision
        assert len(again.named("analysis")) == (0 if told_the_end else 1)
        assert again.named("end") == whole.named("end")


def test_who_has_read_the_end_is_told_not_to_come_back(gateway: Gateway, follow: Follow) -> None:
    job_id = gateway.post()["id"]
    complete(gateway, gateway.claim(), 1)
    first = follow(job_id)
    assert first.ends()
    again = follow(job_id, last_id=first.last_id)
    assert again.ends()
    assert (again.status, again.events) == (204, [])


def test_another_gateway_goes_on_where_a_stopped_one_was(gateway: Gateway, redis_url: str, tmp_path: Path, follow: Follow) -> None:
    limits = UploadLimits(max_bytes=MAX_BYTES)
    with running(redis_url=redis_url, data=gateway.data, limits=limits) as other:
        job_id = gateway.post()["id"]
        first = follow(job_id, at=other)
        lease = gateway.claim()
        show(gateway, lease, *finished(2))
        assert first.hears("windows")
        wait_until(lambda: len(first.named("analysis")) >= 1 and first.named("analysis")[-1]["state"] == "running")
        other.service.stop()
        assert first.ends(within_s=3), "a stopping gateway lets listeners go at once"
    show(gateway, lease, *finished(4)[2:])
    second = follow(job_id, last_id=first.last_id)
    complete(gateway, lease, 4)
    assert second.ends()
    assert windows_told(first, second) == [("t1", one.start_ms) for one in finished(4)]
    assert [one["state"] for one in second.named("analysis")] in (["succeeded"], ["running", "succeeded"])


def test_an_id_of_somebody_else_tells_everything(gateway: Gateway, follow: Follow) -> None:
    follower = follow(gateway.post()["id"], last_id="17")
    assert follower.hears("analysis")


def test_a_revision_outgrows_those_from_before_redis_lost_its_data(gateway: Gateway, redis_url: str) -> None:
    job_id = gateway.post()["id"]
    with redis.Redis.from_url(redis_url, decode_responses=True) as raw:
        before = int(raw.hget(f"mien:job:{job_id}", "revision") or 0)
        raw.flushall()

        upkeep = UpkeepQueue(redis_url)
        assert reconcile(Videos(gateway.data), upkeep) == (1, 0)
        upkeep.close()
        assert int(raw.hget(f"mien:job:{job_id}", "revision") or 0) > before


def test_a_redis_that_is_away_for_a_while_ends_no_stream(frail_gateway: Gateway, redis_server: Any) -> None:
    job_id = frail_gateway.post()["id"]
    follower = Follower(f"{frail_gateway.service.url}/v1/analyses/{job_id}/events")
    assert follower.hears("analysis")
    redis_server.kill()
    assert not follower.ends(within_s=1)
    redis_server.start()
    lease = frail_gateway.claim()
    complete(frail_gateway, lease, 1)
    assert follower.ends(within_s=15)
    assert follower.named("analysis")[-1]["state"] == "succeeded"


# --- many listeners --------------------------------------------------------------------------------------------------


def test_many_listeners_cost_redis_no_connection_each(gateway: Gateway, follow: Follow, redis_url: str) -> None:
    job_id = gateway.post()["id"]
    with redis.Redis.from_url(redis_url) as raw:
        assert follow(job_id).hears("analysis")
        before = len(raw.client_list())
        followers = []
        for _ in range(40):  # one after the other: it is listening that costs nothing
            followers.append(follow(job_id))
            assert followers[-1].hears("analysis")
        lease = gateway.claim()
        assert all(soon(lambda f=follower: f.named("analysis")[-1]["state"] == "running") for follower in followers)
        assert len(raw.client_list()) <= before + 4
    complete(gateway, lease, 1)
    assert all(follower.ends() for follower in followers)


def test_a_tenant_has_so_many_listeners_and_no_more(gateway: Gateway, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_OF_TENANT", 2)
    job_id = gateway.post()["id"]
    kept = [follow(job_id) for _ in range(2)]
    assert all(follower.hears("analysis") for follower in kept)
    refused = gateway.http.get(f"/v1/analyses/{job_id}/events")
    assert (refused.status_code, refused.json()["code"], refused.json()["quota"]) == (429, "quota-exceeded", "listeners")
    kept[0].leave()
    wait_until(lambda: follow(job_id).hears("analysis", within_s=0.5))


def test_a_stream_ends_within_five_seconds_when_its_key_is_revoked(redis_url: str, tmp_path: Path) -> None:
    keys = callers(tmp_path / "keys")
    new = keys.keys.create(tenant="acme", roles=[Role.CLIENT], purpose=Purpose.RESEARCH)
    limits, guard = UploadLimits(max_bytes=MAX_BYTES), Guard(keys.keys)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=limits, guard=guard) as guarded:
        posted = guarded.http.post("/v1/analyses", content=VIDEO, headers={**RAW, **bearer(new.written)}).raise_for_status()
        url = f"{guarded.service.url}{posted.json()['links']['events']}"
        mine, theirs = (Follower(url, headers=headers) for headers in (bearer(new.written), keys.headers["client of another tenant"]))
        assert theirs.ends()
        assert theirs.status == 404
        assert mine.hears("analysis")
        assert not mine.ends(within_s=3)
        keys.keys.revoke(new.record.id)
        assert mine.ends(within_s=5)
        assert mine.named("end") == []


@pytest.mark.parametrize("job_id", ["an_" + 32 * "0", "nothing"])
def test_what_is_unknown_is_not_followed(gateway: Gateway, job_id: str) -> None:
    response = gateway.http.get(f"/v1/analyses/{job_id}/events")
    assert (response.status_code, response.json()["code"]) == (404, "job-not-found")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("17-3", Told(revision=17, place=3)),
        ("17-3-end", Told(revision=17, place=3, is_all=True)),
        (f"17-{10**14 + LAST_PLACE}", Told(revision=17, place=LAST_PLACE)),
        ("", Told()),
        ("-1--1", Told()),
        ("٣-٣", Told()),
        ("9" * 40, Told()),
    ],
)
def test_ids_are_read_as_they_were_written_or_not_at_all(text: str, told: Told) -> None:
    assert Told.parse(text) == told

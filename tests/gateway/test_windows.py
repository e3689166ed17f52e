"""Windows while an analysis runs, and afterwards: in the order in which they were finished, each once."""

import time
from typing import Any

import pytest

from services.gateway.windows import in_order
from shared.errors import MediaNoVideoStream
from shared.jobs import Failure, Timings
from shared.queue import WorkerQueue
from shared.results import Result, TrackWindow
from shared.videos import Videos
from tests.gateway.conftest import Gateway, wait_until
from tests.gateway.results import WINDOW_MS, result, verdict


def window(track: int, number: int, *, scores_of: int | None = None) -> TrackWindow:
    """Number `number` of a track's timeline, as in `results.track`."""
    start_ms = number * WINDOW_MS
    times = {"start_ms": start_ms, "end_ms": start_ms + WINDOW_MS}
    return TrackWindow.model_validate(
        {"track_id": f"t{track}", "frames": 4, **times, **verdict(start_ms if scores_of is None else scores_of)}
    )


def finished(*windows_of_tracks: int) -> list[TrackWindow]:
    """All windows in the order of time, as they are finished, and not track by track as in a result."""
    numbers = range(max(windows_of_tracks))
    return [window(track, number) for number in numbers for track, count in enumerate(windows_of_tracks, start=1) if number < count]


class Reader:
    """A client that reads on from where it is."""

    def __init__(self, gateway: Gateway, here: str, *, page_size: int = 0) -> None:
        self._gateway = gateway
        self._here = here
        self._page_size = page_size
        self.token: str | None = None
        self.read: list[TrackWindow] = []

    def page(self) -> dict[str, Any]:
        params = {"page_size": self._page_size, **({"page_token": self.token} if self.token else {})}
        page = self._gateway.get(self._here, **params)
        self.read += map(TrackWindow.model_validate, page["windows"])
        self.token = page["next_page_token"]
        return page

    def rest(self) -> list[TrackWindow]:
        """Read on to the last page of a final analysis: all that was read from the first one on."""
        self.page()
        while self.token:
            self.page()
        return self.read


def timelines(whole: Result) -> set[tuple[str, str]]:
    return {(track.track_id, one.model_dump_json()) for track in whole.tracks for one in track.timeline}


def as_timelines(windows: list[TrackWindow]) -> set[tuple[str, str]]:
    assert len({(one.track_id, one.start_ms) for one in windows}) == len(windows), "one of them twice"
    return {(one.track_id, one.model_dump_json(exclude={"track_id"})) for one in windows}


# --- while it runs ---------------------------------------------------------------------------------------------------


def test_a_queued_analysis_has_none_yet_and_says_when_to_look_again(gateway: Gateway) -> None:
    here = gateway.post()["links"]["windows"]
    response = gateway.http.get(here)
    page = response.json()
    assert (page["state"], page["windows"]) == ("queued", [])
    assert int(response.headers["retry-after"]) > 0
    assert page["next_page_token"]


def test_what_is_finished_is_read_once_in_its_order(gateway: Gateway) -> None:
    posted = gateway.post()
    videos, attempt, windows = Videos(gateway.data), gateway.claim().attempt, finished(3, 2)
    videos.begin_windows(posted["id"], attempt)
    reader = Reader(gateway, posted["links"]["windows"])
    for known in (0, 1, 1, 4, 5):
        videos.add_windows(posted["id"], attempt, windows[len(reader.read) : known])
        page = reader.page()
        assert page["state"] == "running"
        assert page["next_page_token"]
        assert reader.read == windows[:known]


def test_a_page_is_no_larger_than_it_was_asked_for(gateway: Gateway) -> None:
    posted = gateway.post()
    attempt = gateway.claim().attempt
    Videos(gateway.data).add_windows(posted["id"], attempt, finished(1200))
    here = posted["links"]["windows"]
    sizes = [len(gateway.get(here, page_size=size)["windows"]) for size in (0, 1, 7, 1000, 5000)]
    assert sizes == [500, 1, 7, 1000, 1000]
    response = gateway.http.get(here, params={"page_size": 5000})
    assert len(response.content) < 1024 * 1024


def test_a_half_written_window_is_not_shown_yet(gateway: Gateway) -> None:
    posted = gateway.post()
    attempt = gateway.claim().attempt
    Videos(gateway.data).add_windows(posted["id"], attempt, [window(1, 0)])
    file = gateway.data / "analyses" / posted["id"] / f"windows-{attempt}.jsonl"
    line = window(1, 1).model_dump_json()
    reader = Reader(gateway, posted["links"]["windows"])
    with file.open("a") as writer:
        for piece in (line[:20], line[20:], "\n"):
            reader.page()
            assert reader.read == [window(1, 0)]
            writer.write(piece)
            writer.flush()
    reader.page()
    assert reader.read == [window(1, 0), window(1, 1)]


def test_a_token_outlives_the_worker(gateway: Gateway, redis_url: str) -> None:
    posted = gateway.post()
    videos, windows = Videos(gateway.data), finished(6)
    hasty = WorkerQueue(redis_url, lease_s=0.1)
    first = hasty.claim()
    assert first is not None
    videos.begin_windows(posted["id"], first.attempt)
    videos.add_windows(posted["id"], first.attempt, windows[:4])
    reader = Reader(gateway, posted["links"]["windows"])
    reader.page()
    assert reader.read == windows[:4]

    time.sleep(0.15)
    claims = []
    wait_until(lambda: claims.append(hasty.claim()) or claims[-1] is not None)
    second = claims[-1]
    assert second.attempt == 2
    hasty.close()
    videos.begin_windows(posted["id"], second.attempt)
    for known in (0, 2, 4):
        videos.add_windows(posted["id"], second.attempt, windows[max(0, known - 2) : known])
        assert reader.page()["windows"] == [], "these were read already"
    videos.add_windows(posted["id"], second.attempt, windows[4:])
    reader.page()
    assert reader.read == windows


# --- afterwards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [0, 1, 4])
def test_after_success_they_are_the_timelines_and_a_reader_goes_on_where_it_was(gateway: Gateway, page_size: int) -> None:
    posted = gateway.post()
    here, whole, windows = posted["links"]["windows"], result(posted["id"], 5, 0, 4), finished(5, 0, 4)
    videos, lease = Videos(gateway.data), gateway.claim()
    videos.add_windows(posted["id"], lease.attempt, windows[:3])
    reader = Reader(gateway, here, page_size=page_size)
    reader.page()
    videos.add_windows(posted["id"], lease.attempt, windows[3:])
    videos.write_result(whole, lease.token)
    gateway.worker.succeed(lease, Timings())
    assert reader.rest() == windows
    assert Reader(gateway, here, page_size=page_size).rest() == windows
    assert as_timelines(windows) == timelines(whole)
    response = gateway.http.get(here)
    assert response.json()["state"] == "succeeded"
    assert "retry-after" not in response.headers


def test_the_result_is_the_truth(gateway: Gateway) -> None:
    posted = gateway.post()
    videos, lease, whole = Videos(gateway.data), gateway.claim(), result(posted["id"], 4, 1)
    shown = [window(1, 0), window(9, 0), window(1, 1, scores_of=7), window(1, 2)]
    videos.add_windows(posted["id"], lease.attempt, shown)
    reader = Reader(gateway, posted["links"]["windows"])
    reader.page()
    assert reader.read == shown
    videos.write_result(whole, lease.token)
    gateway.worker.succeed(lease, Timings())
    assert reader.rest() == [*shown, window(1, 1), window(1, 3), window(2, 0)], "what was not shown as it is comes last"
    anew = Reader(gateway, posted["links"]["windows"], page_size=2).rest()
    assert anew == [window(1, 0), window(1, 2), window(1, 1), window(1, 3), window(2, 0)]
    assert as_timelines(anew) == timelines(whole)


def test_a_result_of_which_nothing_was_shown_is_whole_all_the_same(gateway: Gateway) -> None:
    posted = gateway.post()
    whole = result(posted["id"], 3, 2)
    gateway.succeed(whole)
    assert as_timelines(Reader(gateway, posted["links"]["windows"]).rest()) == timelines(whole)


def test_what_a_failed_analysis_had_judged_can_be_read_to_its_end(gateway: Gateway) -> None:
    posted = gateway.post()
    lease = gateway.claim()
    Videos(gateway.data).add_windows(posted["id"], lease.attempt, finished(5))
    gateway.worker.fail(lease, Failure.of(MediaNoVideoStream()))
    reader = Reader(gateway, posted["links"]["windows"], page_size=5)
    page = reader.page()
    assert (page["state"], page["next_page_token"]) == ("failed", None)
    assert reader.read == finished(5)


def test_a_canceled_analysis_that_never_ran_has_none(gateway: Gateway) -> None:
    links = gateway.post()["links"]
    gateway.http.post(links["cancel"])
    assert gateway.get(links["windows"]) == {"state": "canceled", "windows": [], "next_page_token": None}


def test_a_deleted_result_is_gone_and_so_is_a_deleted_analysis(gateway: Gateway) -> None:
    links = gateway.post()["links"]
    gateway.succeed()
    gone = gateway.http.get(links["windows"])
    assert (gone.status_code, gone.json()["code"]) == (410, "result-gone")
    gateway.http.delete(links["analysis"])
    gone = gateway.http.get(links["windows"])
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")


def test_windows_of_another_version_of_mien_say_so(gateway: Gateway) -> None:
    posted = gateway.post()
    attempt = gateway.claim().attempt
    (gateway.data / "analyses" / posted["id"] / f"windows-{attempt}.jsonl").write_text('{"from": "the future"}\n')
    response = gateway.http.get(posted["links"]["windows"])
    assert (response.status_code, response.json()["code"]) == (500, "result-unreadable")


@pytest.mark.parametrize("query", ["page_size=-1", "page_token=their.own"])
def test_a_bad_parameter_is_named(lasting_gateway: Gateway, query: str) -> None:
    response = lasting_gateway.http.get(f"/v1/analyses/an_{'0' * 32}/windows?{query}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, f"query.{query.partition('=')[0]}")


def test_a_place_that_is_not_reached_yet_is_empty(gateway: Gateway) -> None:
    here = gateway.post()["links"]["windows"]
    far = "________"
    page = gateway.get(here, page_token=far)
    assert (page["windows"], page["next_page_token"]) == ([], far)
    gateway.claim()
    assert gateway.get(here, page_token=far)["next_page_token"] == far


def test_a_track_without_windows_takes_no_place() -> None:
    assert in_order([], result("an_" + "0" * 32, 0, 2, 0, 1)) == [1, 2, 4]

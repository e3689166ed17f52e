"""Windows are judged once, as soon as they are finished, and come to the same whenever that is."""

import tracemalloc
from collections.abc import Sequence

import pytest

from services.preprocess.judge.sightings import Sighting
from services.preprocess.judge.timelines import Timelines
from shared.expressions import LABELS
from shared.results import TrackWindow
from tests.preprocess.judge.mean_classifier import RELEASE, MeanClassifier, track

MIXED = [LABELS[i * 5 // 7 % 7] for i in range(80)]


def timelines() -> Timelines:
    return Timelines(release=RELEASE, classifier=MeanClassifier())  # type: ignore[arg-type]


def at_once(tracks: Sequence[tuple[int, Sequence[Sighting]]], duration_ms: int) -> tuple[Timelines, list[TrackWindow]]:
    whole = timelines()
    return whole, whole.finish(tracks, duration_ms=duration_ms)


def test_a_grin_is_found_where_it_happens() -> None:
    _, windows = at_once([(1, track(["neutral"] * 8 + ["happy"] * 4))], 1500)
    assert [(window.track_id, window.start_ms, window.end_ms, window.label, window.frames) for window in windows] == [
        ("t1", 0, 500, "neutral", 4),
        ("t1", 500, 1000, "neutral", 4),
        ("t1", 1000, 1500, "happy", 4),
    ]


def test_the_last_window_ends_with_the_video() -> None:
    _, windows = at_once([(1, track(["sad"] * 5))], 560)
    assert [(window.start_ms, window.end_ms) for window in windows] == [(0, 500), (500, 560)]


@pytest.mark.parametrize("step", [1, 3, 16, 79])
def test_however_often_they_are_asked_for_they_are_the_same(step: int) -> None:
    sightings = {1: track(MIXED), 2: [each for each in track(MIXED[::-1]) if each.pts_ms % 2500 < 700]}
    expected, at_the_end = at_once(list(sightings.items()), 10_000)
    running, shown = timelines(), []
    for until in range(0, 80, step):
        so_far = {number: [each for each in all_of if each.frame <= until] for number, all_of in sightings.items()}
        fresh = running.advance([each for each in so_far.items() if each[1]], seen_until_ms=until * 125)
        assert all(window.end_ms <= until * 125 for window in fresh)
        shown += fresh
    shown += running.finish(list(sightings.items()), duration_ms=10_000)
    assert sorted(shown, key=place) == sorted(at_the_end, key=place)
    assert [running.of(number) for number in sightings] == [expected.of(number) for number in sightings]


def place(window: TrackWindow) -> tuple[str, int]:
    return window.track_id, window.start_ms


def test_a_track_that_is_established_late_gets_its_early_windows() -> None:
    late, running = track(["fear"] * 12), timelines()
    assert running.advance([], seen_until_ms=1000) == []
    assert [window.start_ms for window in running.advance([(1, late)], seen_until_ms=1400)] == [0, 500]
    assert [window.start_ms for window in running.finish([(1, late)], duration_ms=1500)] == [1000]


def test_many_windows_are_asked_for_in_batches_and_stay_in_order() -> None:
    _, windows = at_once([(1, track([LABELS[i // 4 % 7] for i in range(4 * 150)]))], 75_000)
    assert [window.label for window in windows] == [LABELS[i % 7] for i in range(150)]


def test_what_is_kept_of_a_window_is_a_fraction_of_what_it_becomes() -> None:
    running, late, many = timelines(), track(["fear"] * 4 * 400), 400
    tracemalloc.start()
    try:
        running.finish([(1, late)], duration_ms=many * 500)
        kept = tracemalloc.get_traced_memory()[0]
        windows = running.of(1)
        became = tracemalloc.get_traced_memory()[0] - kept
    finally:
        tracemalloc.stop()
    assert len(windows) == many
    assert kept < became / 2

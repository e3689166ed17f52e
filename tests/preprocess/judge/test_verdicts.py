"""Windows and verdicts, with a classifier that behaves like the served one: mean of features, uniform attention."""

import numpy as np
import pytest

from services.preprocess.judge.verdicts import explain, judge_track, windows
from shared.releases import Sampling
from tests.preprocess.judge.mean_classifier import RELEASE, MeanClassifier, track


def test_a_track_is_judged_over_all_its_frames() -> None:
    sightings = track(["neutral"] * 8 + ["happy"] * 4)
    judged = judge_track(sightings, number=3, timeline=(), release=RELEASE, classifier=MeanClassifier())  # type: ignore[arg-type]
    assert judged.verdict.label == "neutral"
    assert judged.verdict.scores["happy"] == pytest.approx(1 / 3, abs=1e-3)
    assert (judged.track_id, judged.start_ms, judged.end_ms, judged.frames) == ("t3", 0, 1375, 12)


def test_windows_lie_on_the_grid_of_the_video_and_skip_gaps() -> None:
    spans = windows([610, 700, 2_010], sampling=Sampling(window_ms=500, step_ms=500), duration_ms=2_100)
    assert [(span.start_ms, span.end_ms, span.first, span.last) for span in spans] == [(500, 1000, 0, 2), (2000, 2100, 2, 3)]


def test_sliding_windows_cover_each_sighting_as_often_as_they_overlap() -> None:
    times = list(range(0, 4000, 125))
    spans = windows(times, sampling=Sampling(window_ms=1000, step_ms=250), duration_ms=4000)
    covered = [sum(span.first <= i < span.last for span in spans) for i in range(len(times))]
    assert covered[8:] == [4] * len(covered[8:])


def test_the_heaviest_frames_decide() -> None:
    weights = np.array((0.1, 0.5, 0.05, 0.3, 0.05), dtype=np.float32)
    explanation = explain(track(["sad"] * 5), weights)
    assert [frame.pts_ms for frame in explanation.frames] == [125, 375, 0]
    assert explanation.regions == {"face": 0.5, "eyes": 0.25, "mouth": 0.25}

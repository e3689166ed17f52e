"""Windows and verdicts, with a classifier that behaves like the served one: mean of features, uniform attention."""

import numpy as np
import pytest

from services.preprocess.classifier import Judged
from services.preprocess.sightings import Sighting
from services.preprocess.verdicts import explain, judge_track, windows
from shared.expressions import LABELS
from shared.releases import Release, Sampling

RELEASE = Release(
    version=1,
    size=64,
    width=0.25,
    feature_size=7,
    training={},
    metrics={},
    data=(),
    commit="c",
    notes="",
    sampling=Sampling(window_ms=500, step_ms=500),
)


class MeanClassifier:
    """Takes a feature for the scores themselves, and weighs the frames of a clip alike."""

    def judge(self, release: Release, features_btf: np.ndarray, mask_bt: np.ndarray) -> Judged:
        weights = mask_bt / mask_bt.sum(axis=1, keepdims=True)
        scores = (features_btf * weights[:, :, np.newaxis]).sum(axis=1)
        return Judged(scores=scores.astype(np.float32), frame_weights=weights.astype(np.float32))


def track(labels: list[str], *, every_ms: int = 125) -> list[Sighting]:
    return [
        Sighting(
            frame=i,
            pts_ms=i * every_ms,
            box=(0.1, 0.1, 0.3, 0.4),
            feature=np.eye(7, dtype=np.float32)[LABELS.index(label)],
            regions=np.array((0.5, 0.25, 0.25), dtype=np.float32),
        )
        for i, label in enumerate(labels)
    ]


def test_a_grin_is_found_where_it_happens() -> None:
    sightings = track(["neutral"] * 8 + ["happy"] * 4)
    judged = judge_track(sightings, number=1, duration_ms=1500, release=RELEASE, classifier=MeanClassifier())  # type: ignore[arg-type]
    assert [(window.start_ms, window.end_ms, window.label, window.frames) for window in judged.timeline] == [
        (0, 500, "neutral", 4),
        (500, 1000, "neutral", 4),
        (1000, 1500, "happy", 4),
    ]
    assert judged.verdict.label == "neutral"
    assert judged.verdict.scores["happy"] == pytest.approx(1 / 3, abs=1e-3)
    assert (judged.start_ms, judged.end_ms, judged.frames) == (0, 1375, 12)


def test_windows_lie_on_the_grid_of_the_video_and_skip_gaps() -> None:
    spans = windows([610, 700, 2_010], sampling=Sampling(window_ms=500, step_ms=500), duration_ms=2_100)
    assert [(span.start_ms, span.end_ms, span.first, span.last) for span in spans] == [(500, 1000, 0, 2), (2000, 2100, 2, 3)]


def test_sliding_windows_cover_each_sighting_as_often_as_they_overlap() -> None:
    times = list(range(0, 4000, 125))
    spans = windows(times, sampling=Sampling(window_ms=1000, step_ms=250), duration_ms=4000)
    covered = [sum(span.first <= i < span.last for span in spans) for i in range(len(times))]
    assert covered[8:] == [4] * len(covered[8:])


def test_many_windows_are_asked_for_in_batches_and_stay_in_order() -> None:
    labels = [LABELS[i // 4 % 7] for i in range(4 * 150)]
    judged = judge_track(track(labels), number=1, duration_ms=75_000, release=RELEASE, classifier=MeanClassifier())  # type: ignore[arg-type]
    assert [window.label for window in judged.timeline] == [LABELS[i % 7] for i in range(150)]


def test_the_heaviest_frames_decide() -> None:
    weights = np.array((0.1, 0.5, 0.05, 0.3, 0.05), dtype=np.float32)
    explanation = explain(track(["sad"] * 5), weights)
    assert [frame.pts_ms for frame in explanation.frames] == [125, 375, 0]
    assert explanation.regions == {"face": 0.5, "eyes": 0.25, "mouth": 0.25}

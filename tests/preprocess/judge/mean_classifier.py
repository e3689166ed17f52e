"""A classifier that behaves like the served one and is easy to foresee: mean of features, uniform attention."""

from collections.abc import Callable
from copy import copy
from threading import Event
from typing import Self

import numpy as np

from services.preprocess.judge.classifier import Encoded, Judged
from services.preprocess.judge.sightings import Sighting
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
    """Takes a feature for the scores themselves, and weighs the frames of a clip alike. Every face is neutral."""

    def __init__(self, *, before: Callable[[Event], None] = lambda _: None) -> None:
        """before: called with what stops the caller, before faces are encoded: to wait there, or to fail."""
        self._before = before
        self._stopping = Event()

    def until(self, stopping: Event) -> Self:
        stoppable = copy(self)
        stoppable._stopping = stopping
        return stoppable

    def encode(self, release: Release, faces_nchw: np.ndarray) -> Encoded:
        self._before(self._stopping)
        features = np.tile(np.eye(7, dtype=np.float32)[LABELS.index("neutral")], (len(faces_nchw), 1))
        return Encoded(features=features, region_weights=np.full((len(faces_nchw), 3), 1 / 3, np.float32))

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
            feature=np.eye(7, dtype=np.float16)[LABELS.index(label)],
            regions=np.array((0.5, 0.25, 0.25), dtype=np.float32),
        )
        for i, label in enumerate(labels)
    ]

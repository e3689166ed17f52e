"""The windows of each track, judged as soon as nothing can be added to them."""

import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from services.preprocess.arrays import Floats, Halves
from services.preprocess.judge.classifier import Classifier
from services.preprocess.judge.sightings import Sighting
from services.preprocess.judge.verdicts import Span, verdict, windows
from shared.releases import Release
from shared.results import TrackWindow, Window

CLIPS_AT_A_TIME = 64
"""Padded clips in memory: all windows of a long track at once would take hundreds of megabytes."""

Numbered = Iterable[tuple[int, Sequence[Sighting]]]
"""Tracks by number, with all their sightings in order of time."""


@dataclass(kw_only=True)
class Place:
    """How far a track has been judged."""

    next_start_ms: int = 0
    """Earlier windows are finished."""
    first: int = 0
    """Earlier sightings are in no window that is still to come."""


@dataclass(frozen=True, kw_only=True)
class Open:
    """A window that is to be judged now."""

    track: int
    span: Span
    features: Halves
    """(T, F)"""


class Timelines:
    """Every window is judged once, whether it is asked for while the video runs or at its end."""

    def __init__(self, *, release: Release, classifier: Classifier) -> None:
        self._release = release
        self._classifier = classifier
        self._places: defaultdict[int, Place] = defaultdict(Place)
        self._judged: defaultdict[int, list[tuple[Span, Floats]]] = defaultdict(list)
        """By track: the windows and their scores, which take a fraction of the memory of what they become."""

    def advance(self, tracks: Numbered, *, seen_until_ms: int) -> list[TrackWindow]:
        """Judge the windows that end before `seen_until_ms`, up to which all sightings are there. In order of time."""
        return self._finish(tracks, until_ms=seen_until_ms, duration_ms=sys.maxsize)

    def finish(self, tracks: Numbered, *, duration_ms: int) -> list[TrackWindow]:
        """Judge all that are left. The last ones end with the video."""
        return self._finish(tracks, until_ms=sys.maxsize, duration_ms=duration_ms)

    def of(self, number: int) -> tuple[Window, ...]:
        """What has been judged of a track, in order of time."""
        return tuple(Window(**fields(span, scores)) for span, scores in self._judged[number])

    def _finish(self, tracks: Numbered, *, until_ms: int, duration_ms: int) -> list[TrackWindow]:
        due = [window for number, track in tracks for window in self._due(number, track, until_ms=until_ms, duration_ms=duration_ms)]
        due.sort(key=lambda window: (window.span.end_ms, window.track))
        scores = judge_clips([window.features for window in due], release=self._release, classifier=self._classifier)
        for window, each in zip(due, scores, strict=True):
            self._judged[window.track].append((window.span, each))
        return [TrackWindow(track_id=f"t{window.track}", **fields(window.span, each)) for window, each in zip(due, scores, strict=True)]

    def _due(self, number: int, track: Sequence[Sighting], *, until_ms: int, duration_ms: int) -> Iterable[Open]:
        """The track's windows that can be judged now; from here on they count as judged."""
        place = self._places[number]
        tail = track[place.first :]
        if not tail:
            return
        spans = windows([sighting.pts_ms for sighting in tail], sampling=self._release.sampling, duration_ms=duration_ms)
        for span in spans:
            if span.start_ms >= place.next_start_ms and span.end_ms <= until_ms:
                yield Open(track=number, span=span, features=np.stack([sighting.feature for sighting in tail[span.first : span.last]]))
                place.next_start_ms = span.start_ms + self._release.sampling.step_ms
        place.first += bisect_left(tail, place.next_start_ms, key=attrgetter("pts_ms"))


def judge_clips(clips: Sequence[Halves], *, release: Release, classifier: Classifier) -> list[Floats]:
    """Scores (7,) of each clip (T, F), asked for in padded batches."""
    scores: list[Floats] = []
    for start in range(0, len(clips), CLIPS_AT_A_TIME):
        group = clips[start : start + CLIPS_AT_A_TIME]
        padded = np.zeros((len(group), max(map(len, group)), release.feature_size), dtype=np.float32)
        mask = np.zeros(padded.shape[:2], dtype=np.float32)
        for row, clip in enumerate(group):
            padded[row, : len(clip)] = clip
            mask[row, : len(clip)] = 1
        scores.extend(classifier.judge(release, padded, mask).scores)
    return scores


def fields(span: Span, scores: Floats) -> dict[str, Any]:
    return {"start_ms": span.start_ms, "end_ms": span.end_ms, "frames": span.last - span.first, **verdict(scores)}

"""Encodes faces and judges what is finished of their tracks, in a thread of its own: Triton works while the next frames are searched."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import numpy as np

from services.preprocess.frontend import Crop
from services.preprocess.judge.classifier import Classifier
from services.preprocess.judge.sightings import Sighting, Sightings
from services.preprocess.judge.timelines import Timelines
from services.preprocess.judge.verdicts import judge_track
from services.preprocess.stopwatch import Stopwatch
from shared.releases import Release
from shared.results import Track, TrackWindow

MOST_WAITING: Final = 2
"""Batches of crops that may wait for the model: whoever sends more waits himself, so memory stays flat."""


class Judging:
    """Takes the crops of one video in the order of their frames. The first error of the thread is raised by the next call.

    Nothing but this thread uses the classifier, which is not made for several. Use it in a `with`: leaving it waits for the request
    that is on its way, at most as long as the classifier's timeout.
    """

    def __init__(self, *, release: Release, classifier: Classifier, sightings: Sightings, watch: Stopwatch) -> None:
        """sightings: receives every encoded face; only its features are kept."""
        self._release = release
        self._classifier = classifier
        self._sightings = sightings
        self._watch = watch
        self._timelines = Timelines(release=release, classifier=classifier)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judging")
        self._waiting: deque[tuple[int, Future[list[TrackWindow]]]] = deque()
        self.frames_judged = 0
        """Frames whose faces the model has answered for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def send(self, crops: Sequence[Crop], *, frames: int, seen_until_ms: int) -> list[TrackWindow]:
        """Have the faces of so many frames judged, the last of them at `seen_until_ms`. Returns the windows finished since last time."""
        self._waiting.append((frames, self._thread.submit(self._judge, crops, seen_until_ms)))
        finished: list[TrackWindow] = []
        while self._waiting and (self._waiting[0][1].done() or len(self._waiting) > MOST_WAITING):
            finished += self._next()
        return finished

    def finish(self, *, duration_ms: int) -> tuple[list[TrackWindow], list[Track]]:
        """Once all crops are sent: the windows that have not been returned yet, and all tracks whole."""
        windows: list[TrackWindow] = []
        while self._waiting:
            windows += self._next()
        last, tracks = self._thread.submit(self._settle, duration_ms).result()
        return windows + last, tracks

    def _next(self) -> list[TrackWindow]:
        frames, judged = self._waiting.popleft()
        windows = judged.result()
        self.frames_judged += frames
        return windows

    def _judge(self, crops: Sequence[Crop], seen_until_ms: int) -> list[TrackWindow]:
        with self._watch("infer"):
            for crop, sighting in self._encoded(crops):
                self._sightings.add(crop.track, sighting)
            return self._timelines.advance(self._sightings.established(), seen_until_ms=seen_until_ms)

    def _encoded(self, crops: Sequence[Crop]) -> Iterable[tuple[Crop, Sighting]]:
        """One feature for each crop, which is all that is kept of it."""
        if not crops:
            return
        encoded = self._classifier.encode(self._release, np.stack([crop.tensor for crop in crops]))
        for crop, feature, regions in zip(crops, encoded.features, encoded.region_weights, strict=True):
            yield crop, Sighting(frame=crop.frame, pts_ms=crop.pts_ms, box=crop.box, feature=feature, regions=regions)

    def _settle(self, duration_ms: int) -> tuple[list[TrackWindow], list[Track]]:
        with self._watch("infer"):
            self._sightings.settle()
            windows = self._timelines.finish(self._sightings.established(), duration_ms=duration_ms)
            tracks = [
                judge_track(track, number=number, timeline=self._timelines.of(number), release=self._release, classifier=self._classifier)
                for number, track in self._sightings.established()
            ]
            return windows, tracks

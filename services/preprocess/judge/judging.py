"""Encodes faces and judges what is finished of their tracks, in a thread of its own: Triton works while the next frames are searched."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np

from services.preprocess.asking import ASKS_EVERY_S, Ask
from services.preprocess.faces.crop import Crop
from services.preprocess.judge.classifier import Classifier
from services.preprocess.judge.sightings import Sighting, Sightings, halved
from services.preprocess.judge.timelines import Timelines
from services.preprocess.judge.verdicts import judge_track
from services.preprocess.stopwatch import Stopwatch
from shared.releases import Release
from shared.results import Track, TrackWindow

GROUP: Final = 16
"""Crops, or frames where these have fewer faces, that are gathered before the model is asked: what one request holds."""
MOST_WAITING: Final = 3 * GROUP
"""Crops, or frames, that may wait for the model: whoever sends more waits himself, so memory stays flat."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Crops that the model has been given, of some frames."""

    frames: int
    size: int
    """Of crops or of frames, whichever are more."""
    judged: Future[list[TrackWindow]]


class Judging:
    """Takes the crops of one video in the order of their frames. The first error of the thread is raised by the next call.

    Nothing but this thread uses the classifier, which is not made for several. Use it in a `with`: leaving it calls back the requests
    that are on their way.
    """

    def __init__(self, *, release: Release, classifier: Classifier, sightings: Sightings, watch: Stopwatch) -> None:
        """sightings: receives every encoded face; only its features are kept."""
        self._stopping = Event()
        self._release = release
        self._classifier = classifier.until(self._stopping)
        self._sightings = sightings
        self._watch = watch
        self._timelines = Timelines(release=release, classifier=self._classifier)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judging")
        self._crops: list[Crop] = []
        self._frames = 0
        self._seen_until_ms = 0
        self._waiting: deque[Group] = deque()
        self.frames_judged = 0
        """Frames whose faces the model has answered for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def send(self, crops: Sequence[Crop], *, pts_ms: int, ask: Ask) -> list[TrackWindow]:
        """Have the faces of the frame at `pts_ms` judged, soon. Returns the windows finished since last time."""
        self._crops += crops
        self._frames += 1
        self._seen_until_ms = pts_ms
        if max(len(self._crops), self._frames) >= GROUP:
            self._submit()
        finished: list[TrackWindow] = []
        while self._waiting and (self._waiting[0].judged.done() or sum(group.size for group in self._waiting) > MOST_WAITING):
            finished += self._next(ask)
        return finished

    def finish(self, *, duration_ms: int, ask: Ask) -> tuple[list[TrackWindow], list[Track]]:
        """Once all crops are sent: the windows that have not been returned yet, and all tracks whole."""
        if self._frames:
            self._submit()
        windows: list[TrackWindow] = []
        while self._waiting:
            windows += self._next(ask)
        last, tracks = answered(self._thread.submit(self._settle, duration_ms), ask)
        return windows + last, tracks

    def _submit(self) -> None:
        """Give the model what has been gathered."""
        judged = self._thread.submit(self._judge, self._crops, self._seen_until_ms)
        self._waiting.append(Group(frames=self._frames, size=max(len(self._crops), self._frames), judged=judged))
        self._crops, self._frames = [], 0

    def _next(self, ask: Ask) -> list[TrackWindow]:
        windows = answered(self._waiting[0].judged, ask)
        self.frames_judged += self._waiting.popleft().frames
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
            yield crop, Sighting(frame=crop.frame, pts_ms=crop.pts_ms, box=crop.box, feature=halved(feature), regions=regions)

    def _settle(self, duration_ms: int) -> tuple[list[TrackWindow], list[Track]]:
        with self._watch("infer"):
            self._sightings.settle()
            windows = self._timelines.finish(self._sightings.established(), duration_ms=duration_ms)
            tracks = [
                judge_track(track, number=number, timeline=self._timelines.of(number), release=self._release, classifier=self._classifier)
                for number, track in self._sightings.established()
            ]
            return windows, tracks


def answered(future: Future[Answer], ask: Ask) -> Answer:
    """What comes of it, while `ask` lets it go on."""
    while not wait([future], ASKS_EVERY_S).done:
        ask()
    return future.result()

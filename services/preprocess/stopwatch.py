"""Where the wall-clock time of an analysis goes, and how much of it is left."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from shared.jobs import Progress, Stage, Timings

Item = TypeVar("Item")


class Stopwatch:
    """Adds up the time of each stage. Stages may run beside each other in threads, one thread for each."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[stage] += time.monotonic() - began

    def timed(self, stage: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time spent waiting for each is the stage's."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def progress(self, *, done: int, expected: int | None) -> Progress:
        """How far the frames are, and how long the rest takes at the speed so far. 99 % at most: only the queue says 100."""
        if not expected:
            return Progress(stage=Stage.ANALYSING, frames_done=done)
        total = max(expected, done)
        seconds_left = round((time.monotonic() - self._began) * (total - done) / done) if done else None
        percent = min(99, 100 * done // expected)
        return Progress(stage=Stage.ANALYSING, frames_done=done, frames_total=total, percent=percent, seconds_left=seconds_left)

    def timings(self) -> Timings:
        milliseconds = {stage: round(seconds * 1000) for stage, seconds in self._seconds.items()}
        return Timings(total=round((time.monotonic() - self._began) * 1000), **milliseconds)

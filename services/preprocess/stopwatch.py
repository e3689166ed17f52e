"""Where the wall-clock time of an analysis goes, and how much of it is left."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from shared.jobs import Progress, Stage, Timings

Item = TypeVar("Item")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """When a stage was first begun and last left, in Unix milliseconds, and for how long of that it was busy."""

    stage: str
    began_ms: int
    ended_ms: int
    busy_ms: int


class Stopwatch:
    """Adds up the time of each stage. Stages may run beside each other in threads, one thread for each."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._first_ms: dict[str, int] = {}
        self._last_ms: dict[str, int] = {}
        self._percent = 0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        self._first_ms.setdefault(stage, now_ms())
        try:
            yield
        finally:
            self._seconds[stage] += time.monotonic() - began
            self._last_ms[stage] = now_ms()

    @contextmanager
    def told_to(self, hear: Callable[[Sequence[StageTime]], None]) -> Iterator[None]:
        """Tell the stages when the block ends, however it does. That nobody hears it changes nothing about how it does."""
        try:
            yield
        finally:
            try:
                hear(self.stages())
            except Exception:
                log.exception("nobody was told where the time went")

    @contextmanager
    def opened(self, stage: str, opening: AbstractContextManager[Item]) -> Iterator[Item]:
        """The same context; the time that entering it takes is the stage's."""
        with ExitStack() as stack:
            with self(stage):
                item = stack.enter_context(opening)
            yield item

    def timed(self, stage: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time spent waiting for each is the stage's."""
        while True:
            with self(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    def progress(self, *, done: int, expected: int | None) -> Progress:
        """How far the frames are, and how long the rest takes at the speed so far. 99 % at most: only the queue says 100.

        The share never runs back, though more may be expected by and by.
        """
        if not expected:
            return Progress(stage=Stage.ANALYSING, frames_done=done, percent=self._percent)
        total = max(expected, done)
        seconds_left = round((time.monotonic() - self._began) * (total - done) / done) if done else None
        self._percent = max(self._percent, min(99, 100 * done // expected))
        return Progress(stage=Stage.ANALYSING, frames_done=done, frames_total=total, percent=self._percent, seconds_left=seconds_left)

    def stages(self) -> list[StageTime]:
        """The stages that there have been, in the order of their beginnings."""
        return [
            StageTime(stage=stage, began_ms=began_ms, ended_ms=self._last_ms[stage], busy_ms=round(self._seconds[stage] * 1000))
            for stage, began_ms in self._first_ms.items()
            if stage in self._last_ms
        ]

    def timings(self) -> Timings:
        milliseconds = {stage: round(seconds * 1000) for stage, seconds in self._seconds.items()}
        return Timings(total=round((time.monotonic() - self._began) * 1000), **milliseconds)


def now_ms() -> int:
    return time.time_ns() // 1_000_000

"""What is known about the faces of one video while it is read: small facts per face and frame, never pixels.

A track gets its public number when it is established: when its face has been seen often enough to be trusted. So numbers can be shown while
the video is read, and never change.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from services.preprocess.arrays import Floats, Halves
from shared.results import Coverage

LEAST_SIGHTINGS: Final = 2
"""A track seen once among many sampled frames is more likely a mistake of the detector than a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One face in one sampled frame, encoded."""

    frame: int
    """Number of the sampled frame."""
    pts_ms: int
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in fractions of the frame."""
    feature: Halves
    """(F,): as `halved` makes it."""
    regions: Floats
    """(3,), sums to 1."""


def halved(feature: Floats) -> Halves:
    """A feature of its own, at half the width, which moves scores by less than they are rounded to. What is too large stays finite."""
    most = np.finfo(np.float16).max
    return feature.clip(-most, most).astype(np.float16)


@dataclass(kw_only=True)
class Sightings:
    """Every face of a video by track, and what became of the others. One thread may see and drop while another adds."""

    frames_sampled: int = 0
    frames_with_face: int = 0
    faces_found: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    _waiting: dict[int, list[Sighting]] = field(default_factory=dict)
    """By track: those that are not established yet."""
    _established: list[list[Sighting]] = field(default_factory=list)
    """By number, from 1."""
    _numbers: dict[int, int] = field(default_factory=dict)
    """Of the established tracks."""

    def saw_frame(self, *, faces: int, more: int = 0) -> None:
        """A sampled frame with so many faces to look at, and so many `more` beyond the most that are followed."""
        self.frames_sampled += 1
        self.frames_with_face += faces + more > 0
        self.faces_found += faces + more
        if more:
            self.dropped["too_many"] += more

    @property
    def brief(self) -> bool:
        """Whether so little has been sampled that a face which was seen once has to be trusted."""
        return self.frames_sampled <= LEAST_SIGHTINGS

    def warnings(self) -> tuple[str, ...]:
        return ("faces-truncated",) if self.dropped["too_many"] else ()

    def drop(self, reason: str, faces: int = 1) -> None:
        self.dropped[reason] += faces

    def add(self, track: int, sighting: Sighting) -> None:
        """The sightings of a track come in order of time."""
        if number := self._numbers.get(track):
            self._established[number - 1].append(sighting)
            return
        waiting = self._waiting.setdefault(track, [])
        waiting.append(sighting)
        if len(waiting) >= LEAST_SIGHTINGS:
            self._establish(track)

    def settle(self) -> None:
        """Once the video has been read: drop the tracks that were too short to trust, unless the whole video is that short."""
        for track in list(self._waiting):
            if self.brief:
                self._establish(track)
            else:
                self.dropped["short_track"] += len(self._waiting.pop(track))

    def number_of(self, track: int) -> int | None:
        """1, 2, ... in the order in which tracks were established; None for one that is not."""
        return self._numbers.get(track)

    def established(self) -> Iterator[tuple[int, Sequence[Sighting]]]:
        """Number and sightings so far of each established track, by number. What was in a sequence before keeps its place as it grows."""
        yield from enumerate(self._established, start=1)

    def coverage(self) -> Coverage:
        """Adds up once settled: every face found is used or counted under its reason."""
        used = [sighting for sightings in self._established for sighting in sightings]
        return Coverage(
            frames_sampled=self.frames_sampled,
            frames_with_face=self.frames_with_face,
            frames_used=len({sighting.frame for sighting in used}),
            faces_found=self.faces_found,
            faces_used=len(used),
            dropped=dict(+self.dropped),
        )

    def _establish(self, track: int) -> None:
        self._established.append(self._waiting.pop(track))
        self._numbers[track] = len(self._established)

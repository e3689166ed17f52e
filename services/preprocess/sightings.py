"""What is known about the faces of one video while it is read: small facts per face and frame, never pixels."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.preprocess.faces import MAX_FACES
from shared.results import Coverage

Floats = npt.NDArray[np.float32]

LEAST_SIGHTINGS = 2
"""A track seen once among many sampled frames is more likely a mistake of the detector than a person."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One face in one sampled frame, encoded."""

    frame: int
    """Number of the sampled frame."""
    pts_ms: int
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in fractions of the frame."""
    feature: Floats
    """(F,)"""
    regions: Floats
    """(3,), sums to 1."""


@dataclass(kw_only=True)
class Sightings:
    """Every face of a video by track, and what became of the others."""

    frames_sampled: int = 0
    frames_with_face: int = 0
    faces_found: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    _crowded: bool = False
    """Whether a frame may have held more faces than the detector hands over."""
    _tracks: defaultdict[int, list[Sighting]] = field(default_factory=lambda: defaultdict(list))

    def saw_frame(self, *, faces: int) -> None:
        self.frames_sampled += 1
        self.frames_with_face += faces > 0
        self.faces_found += faces
        self._crowded = self._crowded or faces >= MAX_FACES

    def warnings(self) -> tuple[str, ...]:
        return ("faces-truncated",) if self._crowded else ()

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def add(self, track: int, sighting: Sighting) -> None:
        self._tracks[track].append(sighting)

    def settle(self) -> None:
        """Once the video has been read: drop the tracks that were too short to trust."""
        if self.frames_sampled <= LEAST_SIGHTINGS:
            return
        for track in [track for track, sightings in self._tracks.items() if len(sightings) < LEAST_SIGHTINGS]:
            self.dropped["short_track"] += len(self._tracks.pop(track))

    def tracks(self) -> Iterator[list[Sighting]]:
        """The sightings of each track, tracks and sightings in order of time."""
        yield from sorted(self._tracks.values(), key=lambda sightings: sightings[0].pts_ms)

    def coverage(self) -> Coverage:
        used = [sighting for sightings in self._tracks.values() for sighting in sightings]
        return Coverage(
            frames_sampled=self.frames_sampled,
            frames_with_face=self.frames_with_face,
            frames_used=len({sighting.frame for sighting in used}),
            faces_found=self.faces_found,
            faces_used=len(used),
            dropped=dict(self.dropped),
        )

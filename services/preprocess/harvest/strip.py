"""Each face through a video, thinned as it is read: what is kept is spread evenly over however long the face was seen."""

from collections.abc import Iterator

import numpy as np

from services.preprocess.arrays import Pixels
from services.preprocess.faces.crop import Crop


class Strip:
    """The crops of one track. Memory holds twice as many as are wanted, at most, and the newest.

    Every `stride`-th crop is kept; when there are too many, every second of them goes, and the stride doubles.
    """

    def __init__(self, first: Crop, *, most: int) -> None:
        self.first = first
        self.last = first
        self.sightings = 0
        self.area = 0.0
        """Summed over the sightings, in fractions of the frame: how much of the video is this face."""
        self._most = most
        self._stride = 1
        self._kept: list[Crop] = []
        self.add(first)

    def add(self, crop: Crop) -> None:
        if self.sightings % self._stride == 0:
            if len(self._kept) == 2 * self._most:
                self._kept = self._kept[::2]
                self._stride *= 2
            self._kept.append(crop)
        left, top, right, bottom = crop.box
        self.area += (right - left) * (bottom - top)
        self.sightings += 1
        self.last = crop

    def frames(self) -> Pixels:
        """(T, 9, S, S): at most `most` crops, from the first to the last and as evenly as what was kept allows."""
        wanted = np.linspace(0, self.sightings - 1, min(self._most, self.sightings))
        nearest = (wanted[:-1] / self._stride).round().astype(int)
        return np.stack([*(self._kept[row].tensor for row in nearest), self.last.tensor])


class Strips:
    """One strip for each face in sight. Those that end are handed out at once, and are no longer held."""

    def __init__(self, *, most: int, longest_ms: int | None) -> None:
        self._most = most
        self._longest_ms = longest_ms
        self._running: dict[int, Strip] = {}

    def add(self, crop: Crop) -> Iterator[Strip]:
        """Take in a crop; gives its track's strip if that is long enough already, and begins another."""
        strip = self._running.get(crop.track)
        if strip is not None and not self._is_full(strip, crop):
            strip.add(crop)
            return
        self._running[crop.track] = Strip(crop, most=self._most)
        if strip is not None:
            yield strip

    def ended(self, *, followed: frozenset[int]) -> Iterator[Strip]:
        """The strips of tracks that are no longer followed."""
        for track in sorted(self._running.keys() - followed):
            yield self._running.pop(track)

    def _is_full(self, strip: Strip, crop: Crop) -> bool:
        return self._longest_ms is not None and crop.pts_ms - strip.first.pts_ms >= self._longest_ms

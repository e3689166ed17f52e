"""One face through a video, thinned as it is read: what is kept is spread evenly over however long the face was seen."""

import numpy as np

from services.preprocess.analyze import Crop
from services.preprocess.regions import Pixels


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

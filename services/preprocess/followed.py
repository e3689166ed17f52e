"""The faces of the last frame, and where they should be in the next: what stands in for P-Net between two scans."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from services.preprocess.mtcnn import Array, Boxes, Located, overlap_of_smaller

STILL_THERE: Final = 0.3
"""Share of the smaller box from which a face of this frame may be that of the last."""

GUESSES: Final = ((0.0, 0.0, 1.0), (0.0, 0.0, 1.2))
"""For each face: a move, in sides, and a size, in sides, of a square that is tried."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Followed:
    """N faces that were seen at `pts_ms`."""

    pts_ms: int
    boxes_xyxy: Array
    """(N, 4)"""
    confidences: Array
    """(N,)"""
    velocities_xy: Array
    """(N, 2): pixels per millisecond, of the box's centre."""

    @classmethod
    def nobody(cls) -> Self:
        return cls(
            pts_ms=0,
            boxes_xyxy=np.empty((0, 4), np.float32),
            confidences=np.empty(0, np.float32),
            velocities_xy=np.empty((0, 2), np.float32),
        )

    def guesses(self, at_ms: int) -> Array:
        """(K, 4): squares in which each face may be at that time, several for each."""
        centres, sides = self._centres(at_ms), (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).max(axis=1)
        squares = [
            np.concatenate([middle - sides[:, None] * size / 2, middle + sides[:, None] * size / 2], axis=1)
            for x, y, size in GUESSES
            for middle in (centres + sides[:, None] * np.array((x, y), np.float32),)
        ]
        return np.concatenate(squares).astype(np.float32)

    def lost(self, faces: Located, *, least_confidence: float) -> bool:
        """Whether one that was that certain is not among `faces`."""
        found = np.any(self._overlaps(faces.boxes) >= STILL_THERE, axis=1)
        return bool(np.any(~found & (self.confidences >= least_confidence)))

    def seen(self, faces: Located, at_ms: int) -> Self:
        """The faces that are followed from here on."""
        boxes = faces.boxes
        velocities = np.zeros((len(boxes), 2), np.float32)
        if len(self.boxes_xyxy) and len(boxes) and at_ms > self.pts_ms:
            overlaps = self._overlaps(boxes)
            nearest = overlaps.argmax(axis=0)
            moved = (centres_of(boxes.xyxy) - centres_of(self.boxes_xyxy)[nearest]) / (at_ms - self.pts_ms)
            velocities = np.where(overlaps.max(axis=0)[:, None] >= STILL_THERE, moved, 0).astype(np.float32)
        return type(self)(pts_ms=at_ms, boxes_xyxy=boxes.xyxy, confidences=boxes.scores, velocities_xy=velocities)

    def _centres(self, at_ms: int) -> Array:
        return centres_of(self.boxes_xyxy) + self.velocities_xy * np.float32(at_ms - self.pts_ms)

    def _overlaps(self, boxes: Boxes) -> NDArray[np.float32]:
        return overlap_of_smaller(self.boxes_xyxy, boxes.xyxy)


def centres_of(boxes_xyxy: Array) -> Array:
    result: Array = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) * np.float32(0.5)
    return result

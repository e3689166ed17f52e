"""The faces of the last frame, and where they should be in the next: what stands in for P-Net between two scans."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from services.preprocess.faces.boxes import Array, Boxes, Indices, Located, overlap_of_smaller

STILL_THERE: Final = 0.3
"""Share of the smaller box from which a face of this frame may be that of the last."""

FAR: Final = 0.15
"""Sides that a face is expected to move, from which it is looked for where it was, too."""
ANYWHERE_XY: Final = np.array([(-0.5, 0), (0.5, 0), (0, -0.4), (0, 0.4)], dtype=np.float32)
"""Moves, in halves of a side, that are tried of a face whose way is not known."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Followed:
    """N faces that were seen at `pts_ms`."""

    pts_ms: int
    boxes_xyxy: Array
    """(N, 4)"""
    confidences: Array
    """(N,)"""
    velocities_xy: Array
    """(N, 2): pixels per millisecond, of the box's centre; NaN for a face that has been seen once."""

    @classmethod
    def nobody(cls) -> Self:
        return cls(
            pts_ms=0,
            boxes_xyxy=np.empty((0, 4), np.float32),
            confidences=np.empty(0, np.float32),
            velocities_xy=np.empty((0, 2), np.float32),
        )

    def guesses(self, at_ms: int) -> Array:
        """(K, 4): squares in which the faces may be at that time, most likely ones first.

        Moved on, and where they were if that is far from there; a face that has been seen once may go anywhere.
        """
        half = (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).max(axis=1, keepdims=True) * np.float32(0.5)
        centres, moves = centres_of(self.boxes_xyxy), self.velocities_xy * np.float32(at_ms - self.pts_ms)
        new = np.isnan(moves[:, 0])
        far = np.abs(moves).max(axis=1) > 2 * FAR * half[:, 0]
        anywhere = (centres[new, None] + half[new, None] * ANYWHERE_XY).reshape(-1, 2)
        middles = np.concatenate([centres + np.nan_to_num(moves), centres[far], anywhere])
        halves = np.concatenate([half, half[far], np.repeat(half[new], len(ANYWHERE_XY), axis=0)])
        return np.concatenate([middles - halves, middles + halves], axis=1)

    def lost(self, faces: Located, *, least_confidence: float) -> bool:
        """Whether one that was that certain is not among `faces`."""
        _, gone = self._matched(faces.boxes)
        return bool(np.any(gone & (self.confidences >= least_confidence)))

    def seen(self, faces: Located, at_ms: int) -> Self:
        """The faces that are followed from here on."""
        boxes = faces.boxes
        before, _ = self._matched(boxes)
        velocities = np.full((len(boxes), 2), np.nan, np.float32)
        known = before >= 0
        if at_ms != self.pts_ms:
            moved = centres_of(boxes.xyxy[known]) - centres_of(self.boxes_xyxy[before[known]])
            velocities[known] = moved / np.float32(at_ms - self.pts_ms)
        return type(self)(pts_ms=at_ms, boxes_xyxy=boxes.xyxy, confidences=boxes.scores, velocities_xy=velocities)

    def _matched(self, boxes: Boxes) -> tuple[Indices, NDArray[np.bool_]]:
        """Which of the followed faces each box shows, -1 for none, and (N,) which of them no box shows."""
        gone = np.ones(len(self.boxes_xyxy), dtype=np.bool_)
        if not len(gone) or not len(boxes):
            return np.full(len(boxes), -1, dtype=np.intp), gone
        overlaps = overlap_of_smaller(self.boxes_xyxy, boxes.xyxy)
        nearest = np.where(overlaps.max(axis=0) >= STILL_THERE, overlaps.argmax(axis=0), -1)
        gone[nearest[nearest >= 0]] = False
        return nearest, gone


def centres_of(boxes_xyxy: Array) -> Array:
    result: Array = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) * np.float32(0.5)
    return result

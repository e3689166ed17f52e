"""Following faces: which box of this frame is whose box of the frames before.

By place and movement alone. Two people who swap places during a cut are taken for each other, and somebody who leaves and
comes back is new: a track is a stretch of one face, not an identity.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MAX_GAP_MS: Final = 1000
PATIENCE_SAMPLES: Final = 2
"""A face is waited for over so many samples at least, however far apart they are."""
LEAST_AFFINITY: Final = -0.2
"""What two boxes of one size have that just touch, side by side: a face may move by its own width from sample to sample."""
FRESH_SHARE: Final = 0.5
"""Weight of the newest movement in a track's velocity, which smooths the jitter of the boxes."""

Boxes = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Trail:
    """What is known of one face that is being followed."""

    number: int
    pts_ms: int
    """When it was last seen."""
    box_xyxy: Boxes
    """(4,): where."""
    velocity_xy: Boxes
    """(2,): pixels per millisecond."""

    def expected_at(self, pts_ms: int) -> Boxes:
        """The box, moved on at constant velocity."""
        return self.box_xyxy + np.tile(self.velocity_xy, 2) * (pts_ms - self.pts_ms)

    def seen(self, pts_ms: int, box_xyxy: Boxes) -> Self:
        moved = (centres(box_xyxy[None]) - centres(self.box_xyxy[None]))[0] / max(1, pts_ms - self.pts_ms)
        velocity = FRESH_SHARE * moved + (1 - FRESH_SHARE) * self.velocity_xy
        return type(self)(number=self.number, pts_ms=pts_ms, box_xyxy=box_xyxy, velocity_xy=velocity)


class Tracker:
    """Gives every box of every frame the number of its track: 1, 2, ... by first appearance, and by order in the first frame."""

    def __init__(self, *, max_gap_ms: int = MAX_GAP_MS, least_affinity: float = LEAST_AFFINITY) -> None:
        self._max_gap_ms = max_gap_ms
        self._least_affinity = least_affinity
        self._trails: list[Trail] = []
        self._count = 0
        self._last_pts_ms: int | None = None

    @property
    def followed(self) -> frozenset[int]:
        """The tracks that a later frame may still continue."""
        return frozenset(trail.number for trail in self._trails)

    def update(self, pts_ms: int, boxes_xyxy: NDArray[np.floating]) -> list[int]:
        """The track of each box of the frame at `pts_ms`. Boxes are (N, 4) pixels; frames come in order of time.

        A face that is not seen for longer than `max_gap_ms`, or than two samples where these are further apart, is no longer
        waited for.
        """
        boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
        apart_ms = 0 if self._last_pts_ms is None else pts_ms - self._last_pts_ms
        self._last_pts_ms = pts_ms
        patience_ms = max(self._max_gap_ms, PATIENCE_SAMPLES * apart_ms)
        self._trails = [trail for trail in self._trails if pts_ms - trail.pts_ms <= patience_ms]
        known = self._matched(pts_ms, boxes)
        seen = [
            known[index].seen(pts_ms, box) if index in known else self._begun(pts_ms, box)  # in this order: numbers follow boxes
            for index, box in enumerate(boxes)
        ]
        numbers = [trail.number for trail in seen]
        self._trails = [trail for trail in self._trails if trail.number not in numbers] + seen
        return numbers

    def _matched(self, pts_ms: int, boxes: Boxes) -> dict[int, Trail]:
        """The trail of each box that has one: the assignment with the highest sum of affinities, each at least the least one."""
        if not self._trails:
            return {}
        expected = affinity(np.stack([trail.expected_at(pts_ms) for trail in self._trails]), boxes)
        stopped = affinity(np.stack([trail.box_xyxy for trail in self._trails]), boxes)
        gain = np.maximum(np.maximum(expected, stopped) - self._least_affinity, 0)
        pairs = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        return {int(box): self._trails[trail] for trail, box in pairs if gain[trail, box] > 0}

    def _begun(self, pts_ms: int, box: Boxes) -> Trail:
        self._count += 1
        return Trail(number=self._count, pts_ms=pts_ms, box_xyxy=box, velocity_xy=np.zeros(2))


def affinity(ours_xyxy: Boxes, theirs_xyxy: Boxes) -> Boxes:
    """How well boxes (M, 4) and (N, 4) fit, as (M, N): 1 for the same box, down to -1 for far apart.

    Distance-IoU (Zheng et al., AAAI 2020): the overlap, less the squared distance of the centres over the squared diagonal of
    the box around both. Unlike the overlap alone it still tells near from far when boxes no longer touch.
    """
    ours, theirs = ours_xyxy[:, None], theirs_xyxy[None]
    overlap = area(np.maximum(ours[..., :2], theirs[..., :2]), np.minimum(ours[..., 2:], theirs[..., 2:]))
    union = area(ours[..., :2], ours[..., 2:]) + area(theirs[..., :2], theirs[..., 2:]) - overlap
    around = np.maximum(ours[..., 2:], theirs[..., 2:]) - np.minimum(ours[..., :2], theirs[..., :2])
    apart = centres(ours) - centres(theirs)
    tiny = np.finfo(np.float64).tiny  # boxes without any area fit nothing
    fit: Boxes = overlap / np.maximum(union, tiny) - (apart**2).sum(-1) / np.maximum((around**2).sum(-1), tiny)
    return fit


def area(corners_min: Boxes, corners_max: Boxes) -> Boxes:
    result: Boxes = np.prod(np.maximum(corners_max - corners_min, 0), axis=-1)
    return result


def centres(boxes_xyxy: Boxes) -> Boxes:
    return (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2

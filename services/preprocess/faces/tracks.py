"""Following faces: which box of this frame is whose box of the frames before.

By place and movement, and by looks where those leave a choice. Looks can only speak for a match, never against one, since a face that
turns or comes into other light looks unlike itself. Somebody who leaves and comes back is new: a track is a stretch of one face, not
an identity.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from services.preprocess.arrays import Doubles, Floats, Pixels
from services.preprocess.faces.appearance import LENGTH, appearance, unit
from services.preprocess.faces.face import Face

MAX_GAP_MS: Final = 2000
PATIENCE_SAMPLES: Final = 3
"""A face is waited for over so many samples at least, however far apart they are."""
LEAST_AFFINITY: Final = -0.2
"""What two boxes of one size have that just touch, side by side: a face may move by its own width from sample to sample."""
LEAST_LIKENESS: Final = 0.65
"""Looks that are less alike say nothing. Frames of one face have 0.95 and more, and of a head that has turned by 30 degrees 0.75."""
LIKENESS_GAIN: Final = 1.5
"""What likeness counts in affinity: a face that looks the same may have moved by about three of its widths."""
VELOCITY_MS: Final = 200.0
"""Over about this time movement is averaged, which smooths the jitter of the boxes however often they are sampled."""
FRESH_APPEARANCE: Final = 0.4
"""Weight of the newest in a track's."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Trail:
    """What is known of one face that is being followed."""

    number: int
    pts_ms: int
    """When it was last seen."""
    box_xyxy: Doubles
    """(4,): where."""
    velocity_xy: Doubles
    """(2,): pixels per millisecond."""
    appearance: Floats
    """(LENGTH,), of length 1 or 0."""

    def expected_at(self, pts_ms: int) -> Doubles:
        """The box, moved on at constant velocity."""
        return self.box_xyxy + np.tile(self.velocity_xy, 2) * (pts_ms - self.pts_ms)

    def seen(self, pts_ms: int, box_xyxy: Doubles, appearance: Floats) -> Self:
        elapsed_ms = max(1, pts_ms - self.pts_ms)
        moved = (centres(box_xyxy[None]) - centres(self.box_xyxy[None]))[0] / elapsed_ms
        fresh = 1 - math.exp(-elapsed_ms / VELOCITY_MS)
        return type(self)(
            number=self.number,
            pts_ms=pts_ms,
            box_xyxy=box_xyxy,
            velocity_xy=fresh * moved + (1 - fresh) * self.velocity_xy,
            appearance=unit(FRESH_APPEARANCE * appearance + (1 - FRESH_APPEARANCE) * self.appearance),
        )


class Tracker:
    """Gives every face of every frame of one video the number of its track: 1, 2, ... by first appearance and order in its frame."""

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

    def update(self, pts_ms: int, faces: Sequence[Face], rgb_hwc: Pixels, *, cut: bool = False) -> list[int]:
        """The track of each face of the frame at `pts_ms`; frames come in order of time. With `cut` nobody of the frames before is known.

        A face that is not seen for longer than `max_gap_ms`, or than three samples where these are further apart, is no longer
        waited for.
        """
        self._forget(pts_ms, everybody=cut)
        boxes, appearances = described(faces, rgb_hwc)
        known = self._matched(pts_ms, boxes, appearances)
        seen = [
            known[index].seen(pts_ms, *each) if index in known else self._begun(pts_ms, *each)  # in this order: numbers follow faces
            for index, each in enumerate(zip(boxes, appearances, strict=True))
        ]
        numbers = [trail.number for trail in seen]
        self._trails = [trail for trail in self._trails if trail.number not in numbers] + seen
        return numbers

    def _forget(self, pts_ms: int, *, everybody: bool) -> None:
        apart_ms = 0 if self._last_pts_ms is None else pts_ms - self._last_pts_ms
        self._last_pts_ms = pts_ms
        patience_ms = max(self._max_gap_ms, PATIENCE_SAMPLES * apart_ms)
        self._trails = [trail for trail in self._trails if not everybody and pts_ms - trail.pts_ms <= patience_ms]

    def _matched(self, pts_ms: int, boxes: Doubles, appearances: Floats) -> dict[int, Trail]:
        """The trail of each face that has one: the assignment with the highest sum of affinities, each at least the least one."""
        if not self._trails:
            return {}
        expected = affinity(np.stack([trail.expected_at(pts_ms) for trail in self._trails]), boxes)
        stopped = affinity(np.stack([trail.box_xyxy for trail in self._trails]), boxes)
        likeness = np.stack([trail.appearance for trail in self._trails]) @ appearances.T
        gain = np.maximum(expected, stopped) + LIKENESS_GAIN * np.maximum(likeness - LEAST_LIKENESS, 0)
        gain = np.maximum(gain - self._least_affinity, 0)
        pairs = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        return {int(face): self._trails[trail] for trail, face in pairs if gain[trail, face] > 0}

    def _begun(self, pts_ms: int, box: Doubles, appearance: Floats) -> Trail:
        self._count += 1
        return Trail(number=self._count, pts_ms=pts_ms, box_xyxy=box, velocity_xy=np.zeros(2), appearance=appearance)


def described(faces: Sequence[Face], rgb_hwc: Pixels) -> tuple[Doubles, Floats]:
    """Boxes (N, 4) and appearances (N, LENGTH)."""
    boxes = np.array([face.box_xyxy for face in faces], dtype=np.float64).reshape(-1, 4)
    appearances = np.array([appearance(rgb_hwc, face.landmarks_xy) for face in faces], dtype=np.float32).reshape(-1, LENGTH)
    return boxes, appearances


def affinity(ours_xyxy: Doubles, theirs_xyxy: Doubles) -> Doubles:
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
    fit: Doubles = overlap / np.maximum(union, tiny) - (apart**2).sum(-1) / np.maximum((around**2).sum(-1), tiny)
    return fit


def area(corners_min: Doubles, corners_max: Doubles) -> Doubles:
    result: Doubles = np.prod(np.maximum(corners_max - corners_min, 0), axis=-1)
    return result


def centres(boxes_xyxy: Doubles) -> Doubles:
    return (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2

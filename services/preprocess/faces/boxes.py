"""Boxes and faces on their way through MTCNN's stages: N of them in arrays, and which of them show the same face.

The arithmetic is facenet-pytorch's, where a box's last pixel sometimes belongs to it and sometimes does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms, box_iou

SAME_FACE: Final = 0.7
SAME_FACE_IN_LEVEL: Final = 0.5
"""Overlap from which the lower score of two boxes is dropped."""

ALIKE: Final = 0.6
"""Intersection over union from which two squares show the same of a face."""
NO_SAY: Final = 0.7
"""Score above which a square has a say in where a face is, the more the higher; that of everything O-Net believes in is."""

Array = NDArray[np.float32]
Indices = NDArray[np.intp]
Which = NDArray[np.bool_] | Indices | slice


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Boxes:
    """N boxes in a batch of frames."""

    frames: Indices
    """(N,): which frame of the batch."""
    xyxy: Array
    """(N, 4): left, top, right, bottom in pixels; may reach over the frame's edges."""
    scores: Array
    """(N,): 0 to 1."""

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.xyxy.shape != (count, 4) or self.scores.shape != (count,):
            raise ValueError(f"{count} boxes have {self.xyxy.shape} corners and {self.scores.shape} scores")

    def __len__(self) -> int:
        return len(self.frames)

    def picked(self, which: Which) -> Self:
        return type(self)(frames=self.frames[which], xyxy=self.xyxy[which], scores=self.scores[which])

    def of_frame(self, number: int) -> Self:
        """Those in one frame of the batch, as the boxes of a batch of that frame alone."""
        own = self.frames == number
        return type(self)(frames=np.zeros(int(own.sum()), np.intp), xyxy=self.xyxy[own], scores=self.scores[own])

    @classmethod
    def in_one_frame(cls, xyxy: Array) -> Self:
        """Boxes in a batch of one frame, which come from elsewhere than a network."""
        return cls(frames=np.zeros(len(xyxy), np.intp), xyxy=xyxy.astype(np.float32), scores=np.ones(len(xyxy), np.float32))


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Located:
    """N faces in a batch of frames."""

    boxes: Boxes
    landmarks_xy: Array
    """(N, 5, 2): the eye on the left of the image, the eye on its right, nose, left and right corner of the mouth."""

    def __len__(self) -> int:
        return len(self.boxes)

    def picked(self, which: Which) -> Self:
        return type(self)(boxes=self.boxes.picked(which), landmarks_xy=self.landmarks_xy[which])

    @classmethod
    def none(cls) -> Self:
        return cls(boxes=Boxes.in_one_frame(np.empty((0, 4), np.float32)), landmarks_xy=np.empty((0, 5, 2), np.float32))

    @property
    def areas(self) -> Array:
        """(N,): square pixels."""
        result: Array = np.prod(self.boxes.xyxy[:, 2:] - self.boxes.xyxy[:, :2], axis=1)
        return result


def joined(parts: Sequence[Boxes]) -> Boxes:
    return Boxes(
        frames=np.concatenate([part.frames for part in parts]),
        xyxy=np.concatenate([part.xyxy for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def joined_faces(parts: Sequence[Located]) -> Located:
    return Located(boxes=joined([part.boxes for part in parts]), landmarks_xy=np.concatenate([part.landmarks_xy for part in parts]))


def most_certain(boxes: Boxes, groups: Indices, most_overlap: float) -> Indices:
    """Which boxes stay, highest score first, when none of a group may overlap a better one by more (intersection over union)."""
    kept = batched_nms(torch.from_numpy(boxes.xyxy), torch.from_numpy(boxes.scores), torch.from_numpy(groups), most_overlap)
    which: Indices = kept.numpy()
    return which


def best(found: Located) -> Located:
    """Each face once, as the most certain square shows it: facenet-pytorch's choice."""
    return found.picked(one_of_each(found.boxes))


def agreed(found: Located) -> Located:
    """Each face once, as all squares that show about the same of it show it on average.

    O-Net is as good as certain of most of them (0.9999), so that the best of them is chosen by chance: from frame to frame its landmarks
    jump by 3 % of the eyes' distance. Their mean keeps still.
    """
    kept, boxes = one_of_each(found.boxes), found.boxes
    corners = torch.from_numpy(boxes.xyxy)
    alike = box_iou(corners[kept], corners).numpy() >= ALIKE
    weights = (boxes.scores - NO_SAY) * (alike & (boxes.frames[kept, None] == boxes.frames))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    means = Boxes(frames=boxes.frames[kept], xyxy=weights @ boxes.xyxy, scores=boxes.scores[kept])
    return Located(boxes=means, landmarks_xy=np.tensordot(weights, found.landmarks_xy, axes=1))


def one_of_each(boxes: Boxes) -> Indices:
    """The most certain box of each face, best first.

    A small box inside a large one shows the same face: what counts is the intersection over the smaller area.
    """
    order = np.argsort(-boxes.scores, kind="stable")
    same = (overlap_of_smaller(boxes.xyxy, boxes.xyxy) > SAME_FACE) & (boxes.frames[:, None] == boxes.frames)
    kept: list[int] = []
    for index in order.tolist():
        if not same[index, kept].any():
            kept.append(index)
    return np.array(kept, dtype=np.intp)


def overlap_of_smaller(ours_xyxy: Array, theirs_xyxy: Array) -> Array:
    """(M, N): shared area over the smaller one's, of boxes (M, 4) and (N, 4) whose last pixel belongs to them."""
    corner = np.maximum(ours_xyxy[:, None, :2], theirs_xyxy[None, :, :2])
    other = np.minimum(ours_xyxy[:, None, 2:], theirs_xyxy[None, :, 2:])
    shared = np.prod(np.maximum(other - corner + 1, 0), axis=-1)
    ours, theirs = (np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2] + 1, 1), axis=-1) for boxes in (ours_xyxy, theirs_xyxy))
    result: Array = shared / np.minimum(ours[:, None], theirs[None])
    return result


def shifted(boxes: Boxes, shifts: Array, *, end_px: int) -> Boxes:
    """Each side moved by (N, 4) sides. `end_px` is 1 where the network counts a box's last pixel in."""
    sides = np.tile(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2] + end_px, 2)
    return Boxes(frames=boxes.frames, xyxy=boxes.xyxy + shifts * sides, scores=boxes.scores)


def squared(boxes: Boxes) -> Boxes:
    """Squares around the same centres, as large as the longer side."""
    sizes = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    longer = sizes.max(axis=1, keepdims=True)
    corners = boxes.xyxy[:, :2] + (sizes - longer) / 2
    return Boxes(frames=boxes.frames, xyxy=np.concatenate([corners, corners + longer], axis=1), scores=boxes.scores)

"""MTCNN's three published networks, as three stages over batches: propose, refine, locate.

The networks and their weights are those of facenet-pytorch, and so are the thresholds and the arithmetic of boxes, odd as some of it
is: given its pictures they find its faces. What lies between the networks is written anew, since it costs most of the time there. Here
frames stay bytes, each pyramid level is made from a larger level instead of from the frame, and memory is laid out channels last, in
which these small convolutions run up to four times as fast on a CPU. Two things are better on purpose: faces at the frame's edge (see
`cut_out`), and landmarks that keep still (see `agreed`).

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", IEEE SPL 2016.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from facenet_pytorch import ONet, PNet, RNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.ops import batched_nms, box_iou

PNET_PX: Final = 12
RNET_PX: Final = 24
ONET_PX: Final = 48
"""Sides of the pictures that the networks were trained on."""

PROPOSE_LEAST: Final = 0.6
REFINE_LEAST: Final = 0.7
LOCATE_LEAST: Final = 0.7
"""Scores, 0 to 1, from which each network believes in a face: facenet-pytorch's defaults."""

LEVEL_FACTOR: Final = 0.709
"""Side of a pyramid's level over that of the level before: half the area."""
CELL_PX: Final = 2
"""P-Net judges every second pixel of a level."""

SAME_FACE: Final = 0.7
SAME_FACE_IN_LEVEL: Final = 0.5
"""Overlap from which the lower score of two boxes is dropped."""

ALIKE: Final = 0.6
"""Intersection over union from which two squares show the same of a face."""

GREY: Final = 127
"""What the networks see as nothing."""

PIXELS_PER_PASS: Final = 2**17
"""Of a level, through P-Net at a time: its activations then stay in the processor's cache, whatever the size of a batch."""
CROPS_PER_PASS: Final = 256

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


class Networks:
    """The three stages. Frames are uint8 tensors (3, H, W), all of one size, as `frame_tensor` makes them.

    Blocking; one thread at a time.
    """

    def __init__(self, *, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._pnet, self._rnet, self._onet = (self._ready(network) for network in (PNet(), RNet(), ONet()))

    def _ready(self, network: nn.Module) -> nn.Module:
        return network.eval().requires_grad_(False).to(self._device).to(memory_format=torch.channels_last)

    def frame_tensor(self, rgb_hwc: NDArray[np.uint8]) -> Tensor:
        """The frame on this device, uint8 (3, H, W); on a CPU the same memory."""
        return torch.from_numpy(np.require(rgb_hwc, requirements=["C", "W"])).to(self._device).permute(2, 0, 1)

    @torch.inference_mode()
    def propose(self, frames: Sequence[Tensor], *, min_face_px: float) -> Boxes:
        """P-Net over the pyramid of every frame: squares that may hold a face whose side is `min_face_px` or more. Nearly all do not."""
        parts: list[tuple[Boxes, Array, Indices]] = []
        for first, levels in self._pyramids(frames, min_face_px=min_face_px):
            for number, (scale, level) in enumerate(levels):
                boxes, shifts = self._cells(level, scale)
                own = boxes.frames + first
                parts.append((Boxes(frames=own, xyxy=boxes.xyxy, scores=boxes.scores), shifts, own * MAX_LEVELS + number))
        if not parts:
            return Boxes.in_one_frame(np.empty((0, 4), np.float32))
        boxes = joined([part for part, _, _ in parts])
        shifts = np.concatenate([part for _, part, _ in parts])
        apart = most_certain(boxes, np.concatenate([part for _, _, part in parts]), SAME_FACE_IN_LEVEL)
        boxes, shifts = boxes.picked(apart), shifts[apart]
        best = most_certain(boxes, boxes.frames, SAME_FACE)
        return squared(shifted(boxes.picked(best), shifts[best], end_px=0))

    def _pyramids(self, frames: Sequence[Tensor], *, min_face_px: float) -> Iterator[tuple[int, list[tuple[float, Tensor]]]]:
        """The number of the first frame of each pass, and the levels of its frames: (scale, uint8 (N, 3, h, w))."""
        if not frames:
            return
        height, width = frames[0].shape[-2:]
        scales = level_scales(min(height, width), min_face_px=min_face_px)
        if not scales:
            return
        count = max(1, int(PIXELS_PER_PASS / (height * width * scales[0] ** 2)))
        for first in range(0, len(frames), count):
            yield first, list(zip(scales, pyramid(frames[first : first + count], scales), strict=True))

    def _cells(self, level: Tensor, scale: float) -> tuple[Boxes, Array]:
        """What P-Net believes in, in pixels of the frame, and by how much it would shift each side, (N, 4) in sides."""
        shifts, scores = (out.cpu().numpy() for out in self._pnet(normalised(level)))
        frames, rows, columns = np.nonzero(scores[:, 1] >= PROPOSE_LEAST)
        starts = np.stack([columns, rows], axis=1) * CELL_PX + 1
        corners = np.concatenate([starts, starts + PNET_PX - 1], axis=1).astype(np.float32)
        boxes = Boxes(frames=frames, xyxy=np.floor(corners / np.float32(scale)), scores=scores[frames, 1, rows, columns])
        return boxes, shifts[frames, :, rows, columns]

    @torch.inference_mode()
    def refine(self, frames: Sequence[Tensor], boxes: Boxes) -> Boxes:
        """R-Net: those of the squares that hold a face, moved to where it is. Squares again."""
        if not len(boxes):
            return boxes
        shifts, scores = self._judged(self._rnet, frames, boxes, side=RNET_PX)
        sure = scores[:, 1] > REFINE_LEAST
        found = Boxes(frames=boxes.frames[sure], xyxy=boxes.xyxy[sure], scores=scores[sure, 1])
        best = most_certain(found, found.frames, SAME_FACE)
        return squared(shifted(found.picked(best), shifts[sure][best], end_px=1))

    @torch.inference_mode()
    def locate(self, frames: Sequence[Tensor], boxes: Boxes) -> Located:
        """O-Net: those of the squares that hold a face, each with its landmarks. Several may hold the same one: see `agreed`."""
        if not len(boxes):
            return Located.none()
        shifts, points, scores = self._judged(self._onet, frames, boxes, side=ONET_PX)
        sure = scores[:, 1] > LOCATE_LEAST
        found = Boxes(frames=boxes.frames[sure], xyxy=boxes.xyxy[sure], scores=scores[sure, 1])
        sides = found.xyxy[:, None, 2:] - found.xyxy[:, None, :2] + 1
        landmarks = points[sure].reshape(-1, 2, 5).transpose(0, 2, 1) * sides + found.xyxy[:, None, :2] - 1
        return Located(boxes=shifted(found, shifts[sure], end_px=1), landmarks_xy=landmarks)

    def _judged(self, network: nn.Module, frames: Sequence[Tensor], boxes: Boxes, *, side: int) -> list[Array]:
        """What the network says of each box, column by column. Boxes have something of a frame in them."""
        crops = self._crops(frames, boxes, side=side)
        passes = [[out.cpu().numpy() for out in network(normalised(part))] for part in crops.split(CROPS_PER_PASS)]
        return [np.concatenate(column) for column in zip(*passes, strict=True)]

    def _crops(self, frames: Sequence[Tensor], boxes: Boxes, *, side: int) -> Tensor:
        """uint8 (N, 3, side, side)."""
        places = zip(boxes.frames.tolist(), np.trunc(boxes.xyxy).astype(np.int64).tolist(), strict=True)
        return torch.cat([resampled(cut_out(frames[frame], *box), (side, side)) for frame, box in places])


MAX_LEVELS: Final = 64
"""More than a pyramid can have: a frame that is a face high at its last level would be 12 / 0.709**64 pixels high at its first."""


def level_scales(shorter_px: int, *, min_face_px: float) -> list[float]:
    """Scale of each level, largest first; none where not even one face of that side fits."""
    scales = [PNET_PX / min_face_px]
    while shorter_px * scales[-1] >= PNET_PX:
        scales.append(scales[-1] * LEVEL_FACTOR)
    return scales[:-1]


def pyramid(frames: Sequence[Tensor], scales: Sequence[float]) -> list[Tensor]:
    """The frames at each scale, uint8 (N, 3, h, w): each level from the one that is twice as large, the frames themselves read once."""
    height, width = frames[0].shape[-2:]
    twice = min(1.0, 2 * scales[0])
    pictures = torch.cat([resampled(frame[None], (round(height * twice), round(width * twice))) for frame in frames])
    levels = [pictures, pictures]
    for scale in scales:
        levels.append(resampled(levels[-2], (int(height * scale + 1), int(width * scale + 1))))
    return levels[2:]


def resampled(pictures: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """uint8 (N, 3, H, W) at another size, averaged over what falls together: on a CPU by torch's own code for bytes."""
    if tuple(pictures.shape[-2:]) == size_hw:
        return pictures
    if pictures.device.type == "cpu":
        return interpolate(pictures, size=size_hw, mode="bilinear", antialias=True)
    return interpolate(pictures.float(), size=size_hw, mode="bilinear", antialias=True).round_().clamp_(0, 255).to(torch.uint8)


def cut_out(frame: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """uint8 (1, 3, h, w): the pixels of a box, whose first and last ones count from 1, and grey where it reaches over the frame's edge.

    facenet-pytorch leaves away what lies outside and stretches the rest, which moves the landmarks of a face that enters from a side by
    20 % of the eyes' distance.
    """
    height, width = frame.shape[-2:]
    left, top, right, bottom = left - 1, top - 1, max(right, left), max(bottom, top)
    inner = frame[None, :, max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    outside = (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height))
    if not any(outside):
        return inner
    if not inner.numel():
        return torch.full((1, 3, 1, 1), GREY, dtype=frame.dtype, device=frame.device)
    return pad(inner, outside, value=GREY)


def normalised(pictures: Tensor) -> Tensor:
    """About -1 to 1, as the networks were trained, and channels last."""
    return ((pictures.float() - 127.5) * 0.0078125).contiguous(memory_format=torch.channels_last)


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
    weights = (boxes.scores - LOCATE_LEAST) * (alike & (boxes.frames[kept, None] == boxes.frames))
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

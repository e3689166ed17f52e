"""MTCNN's three published networks, as three stages over batches: propose, refine, locate.

The networks and their weights are those of facenet-pytorch, and so are the thresholds and the arithmetic of boxes, odd as some of it
is: given its pictures they find its faces. What lies between the networks is written anew, since it costs most of the time there. Here
frames stay bytes, each pyramid level is made from a larger level instead of from the frame, and memory is laid out channels last, in
which these small convolutions run up to four times as fast on a CPU. Two things are better on purpose: faces at the frame's edge (see
`cut_out`), and landmarks that keep still (see `boxes.agreed`).

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", IEEE SPL 2016.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from facenet_pytorch import ONet, PNet, RNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from services.preprocess.faces.boxes import (
    SAME_FACE,
    SAME_FACE_IN_LEVEL,
    Array,
    Boxes,
    Indices,
    Located,
    joined,
    most_certain,
    shifted,
    squared,
)

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

GREY: Final = 127
"""What the networks see as nothing."""

PIXELS_PER_PASS: Final = 2**17
"""Of a level, through P-Net at a time: its activations then stay in the processor's cache, whatever the size of a batch."""
CROPS_PER_PASS: Final = 256


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
        """O-Net: those of the squares that hold a face, each with its landmarks. Several may hold the same one: see `boxes.agreed`."""
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

"""Finding faces: the published MTCNN of facenet-pytorch, whose weights ship in its wheel, over batches of frames.

What is odd about that library stops here: object arrays, None for "no face", and frames too small for its first pyramid level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from PIL import Image

DETECTION_SIDE_PX: Final = 640
FRAMES_PER_BATCH: Final = 16
"""Frames in the network at a time, which bounds its memory whatever the caller hands over."""
MAX_FACES: Final = 32


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Face:
    """One face in one frame. Coordinates are pixels of that frame, x to the right, y down; a box may reach over its edges."""

    box_xyxy: NDArray[np.float32]
    """(4,): left, top, right, bottom."""
    landmarks_xy: NDArray[np.float32]
    """(5, 2): the eye on the left of the image, the eye on its right, nose, left and right corner of the mouth."""
    confidence: float
    """0 to 1, as MTCNN's last network says."""

    def __post_init__(self) -> None:
        if self.box_xyxy.shape != (4,) or self.landmarks_xy.shape != (5, 2):
            raise ValueError(f"a face is a box (4,) and landmarks (5, 2), not {self.box_xyxy.shape} and {self.landmarks_xy.shape}")
        if not (np.isfinite(self.box_xyxy).all() and np.isfinite(self.landmarks_xy).all() and 0 <= self.confidence <= 1):
            raise ValueError("a face is made of finite coordinates and a confidence of 0 to 1")

    @property
    def area_px(self) -> float:
        left, top, right, bottom = self.box_xyxy
        return float((right - left) * (bottom - top))

    def scaled(self, factor: float) -> Self:
        """The same face in a frame that is `factor` times as large."""
        return type(self)(box_xyxy=self.box_xyxy * factor, landmarks_xy=self.landmarks_xy * factor, confidence=self.confidence)


class FaceDetector:
    """Faces and landmarks in frames. Blocking; use one per thread.

    A frame whose longer side is more than `side_px` is searched at that size, which bounds the time per frame; `min_face_px` is the
    side of the smallest face searched for at the size that is searched. Faces below `min_confidence` are left out.
    """

    def __init__(
        self,
        *,
        min_face_px: int = 40,
        min_confidence: float = 0.9,
        side_px: int = DETECTION_SIDE_PX,
        device: str = "cpu",
    ) -> None:
        self._min_face_px = min_face_px
        self._min_confidence = min_confidence
        self._side_px = side_px
        self._network = MTCNN(keep_all=True, min_face_size=min_face_px, device=device)

    def detect(self, frames_rgb: Sequence[NDArray[np.uint8]], *, max_faces: int = MAX_FACES) -> list[list[Face]]:
        """The faces of each frame, largest first, at most `max_faces` of them.

        Frames are uint8 (H, W, 3) RGB, all of one size; ValueError otherwise.
        """
        if len({frame.shape for frame in frames_rgb}) > 1:
            raise ValueError("the frames of a batch have one size")
        found: list[list[Face]] = []
        for start in range(0, len(frames_rgb), FRAMES_PER_BATCH):
            found += self._detect_batch(frames_rgb[start : start + FRAMES_PER_BATCH])
        return [sorted(faces, key=lambda face: face.area_px, reverse=True)[:max_faces] for faces in found]

    def _detect_batch(self, frames_rgb: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        height, width = frames_rgb[0].shape[:2]
        shrink = min(1.0, self._side_px / max(height, width))
        size = round(width * shrink), round(height * shrink)
        if min(size) < self._min_face_px:  # MTCNN fails where not even one face fits
            return [[] for _ in frames_rgb]
        frames_nhwc = np.stack([resized(frame, size) for frame in frames_rgb])
        boxes, confidences, landmarks = self._network.detect(frames_nhwc, landmarks=True)
        return [[face.scaled(1 / shrink) for face in self._faces(*each)] for each in zip(boxes, confidences, landmarks, strict=True)]

    def _faces(self, boxes: object, confidences: object, landmarks: object) -> list[Face]:
        """What MTCNN says of one frame, sure ones only; it says None where it finds none, and numbers as Python objects."""
        if boxes is None:
            return []
        columns = (np.asarray(column, dtype=np.float32) for column in (boxes, landmarks, confidences))
        return [
            Face(box_xyxy=box, landmarks_xy=points, confidence=float(confidence))
            for box, points, confidence in zip(*columns, strict=True)
            if confidence >= self._min_confidence
        ]


def resized(rgb_hwc: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame at `size` (width, height), averaged over the pixels that fall together."""
    if rgb_hwc.shape[1::-1] == size:
        return rgb_hwc
    return np.asarray(Image.fromarray(rgb_hwc).resize(size, Image.Resampling.BILINEAR))

"""A face, as it is found in a frame."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


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

"""Turning frames upright, as the container's display matrix asks."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

DISPLAY_MATRIX_BYTES = 36


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """One of the eight ways to hold a camera: first transpose, then mirror the columns, then mirror the rows."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False
    clockwise_degrees: int = 0
    """The rotation, as people say it: 0, 90, 180 or 270."""

    @classmethod
    def of(cls, display_matrix: bytes) -> Self:
        """Read an ISO 14496-12 display matrix (9 int32 in native order, as FFmpeg hands it on).

        (x, y) is shown at (a x + c y, b x + d y). Angles between quarter turns are rounded to the nearest one.
        """
        a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(display_matrix, np.int32, count=9))
        degrees = round(np.degrees(np.arctan2(b, a)) / 90) * 90 % 360
        if abs(a) >= abs(b):
            return cls(mirror_x=a < 0, mirror_y=d < 0, clockwise_degrees=degrees)
        return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0, clockwise_degrees=degrees)

    @property
    def upright(self) -> bool:
        return not (self.transpose or self.mirror_x or self.mirror_y)

    def apply(self, rgb_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame as it is meant to be seen: (H, W, 3), or (W, H, 3) after a quarter turn; contiguous."""
        shown = rgb_hwc.transpose(1, 0, 2) if self.transpose else rgb_hwc
        shown = shown[:, ::-1] if self.mirror_x else shown
        shown = shown[::-1] if self.mirror_y else shown
        return np.ascontiguousarray(shown)

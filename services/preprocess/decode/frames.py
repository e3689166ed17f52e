"""What decoding gives to everything after it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One sampled frame."""

    pts_ms: int
    """Media time, as a player of the file shows it."""
    rgb_hwc: NDArray[np.uint8]
    """(H, W, 3), upright, of square pixels, as BT.709 or sRGB. All frames of a video have the same H and W."""

    def __post_init__(self) -> None:
        if self.rgb_hwc.dtype != np.uint8 or self.rgb_hwc.ndim != 3 or self.rgb_hwc.shape[2] != 3:
            raise ValueError(f"a frame is uint8 (H, W, 3), not {self.rgb_hwc.dtype} {self.rgb_hwc.shape}")

"""How much light there is in a picture."""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.preprocess.arrays import Pixels
from shared.pixels import LUMA

LUMA_OF_BYTES: Final = np.array(LUMA, dtype=np.float32) / 255
"""Luma from 0 to 1 is the sum of red, green and blue, as bytes, times these."""

LEAST_LUMA: Final = 1 / 255
"""The least luma above black."""

BLOCKS: Final = 12
"""Blocks along each side of a picture."""

POINTS: Final = 8
"""Pixels along each side of a block that are looked at, at least: their noise goes with their mean."""

LIT_SHARE: Final = 0.1
"""Of a picture's blocks: what must be bright for the picture to have light in it."""


def sampled_luma(rgb_hwc: Pixels) -> npt.NDArray[np.float32]:
    """Luma from 0 to 1 at evenly spread pixels of uint8 (H, W, 3): a look at a frame costs a fraction of a millisecond."""
    step = max(1, min(rgb_hwc.shape[:2]) // (BLOCKS * POINTS))
    luma: npt.NDArray[np.float32] = np.matmul(rgb_hwc[::step, ::step], LUMA_OF_BYTES, dtype=np.float32)
    return luma


def mean_luma(rgb_hwc: Pixels) -> float:
    """From 0 to 1."""
    return min(1.0, float(sampled_luma(rgb_hwc).mean()))


def light(rgb_hwc: Pixels) -> float:
    """The luma, from 0 to 1, that the brightest tenth of a picture's blocks reach.

    A frame is not dark because most of it is, as a face before a black wall shows; it is dark when its bright places are. And a lamp
    or a noisy pixel does not make a dark room bright.
    """
    luma = sampled_luma(rgb_hwc)
    rows, columns = (np.linspace(0, side, min(BLOCKS, side), endpoint=False).astype(int) for side in luma.shape)
    sums = np.add.reduceat(np.add.reduceat(luma, rows, axis=0), columns, axis=1)
    sizes = np.outer(np.diff(rows, append=luma.shape[0]), np.diff(columns, append=luma.shape[1]))
    return float(np.quantile(sums / sizes, 1 - LIT_SHARE))

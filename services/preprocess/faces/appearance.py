"""How a face looks, in so few numbers that they tell two people beside each other apart and nobody from the rest of the world.

A cue for following, never an identity: it changes with the light and with every turn of the head, and it does not outlive its job.
"""

from typing import Final

import numpy as np

from services.preprocess.arrays import Floats, Pixels
from services.preprocess.faces.regions import Points, upright_thumbnail

BLOCKS: Final = 4
"""Per side of the upright face."""
BLOCK_PX: Final = 4
LENGTH: Final = 3 * BLOCKS**2
LEAST_MEAN_LUMA: Final = 8.0
"""Mean luma below which colours are noise: nothing is divided by less."""


def appearance(rgb_hwc: Pixels, landmarks_xy: Points) -> Floats:
    """The appearance of one face of a frame, (LENGTH,), of length 1: the product of two is 1 for alike and around 0.5 for two people.

    Luma and colour of 4 x 4 blocks of the upright face in units of its mean luma, so that brighter light changes nothing. All 0 where there
    is nothing to see.
    """
    side = BLOCKS * BLOCK_PX
    thumbnail = np.asarray(upright_thumbnail(rgb_hwc, landmarks_xy, size=side).convert("YCbCr"), dtype=np.float32)
    blocks = thumbnail.reshape(BLOCKS, BLOCK_PX, BLOCKS, BLOCK_PX, 3).mean(axis=(1, 3))
    mean = float(blocks[..., 0].mean())
    return unit(((blocks - np.array((mean, 128, 128), dtype=np.float32)) / max(mean, LEAST_MEAN_LUMA)).ravel())


def unit(vector: Floats) -> Floats:
    """At length 1, unless it has none."""
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector

"""Pictures that say their own number, and notice when they are shown wrong.

Two rows of eight blocks: the bits of the number, and below them the same bits inverted. So a picture is black and white
whatever its number, and one that is upside down, mirrored, smeared or somebody else's does not read as the number it was.
"""

import numpy as np
from numpy.typing import NDArray

BITS = 8
BLOCK_PX = 16
WIDTH, HEIGHT = BITS * BLOCK_PX, 2 * BLOCK_PX
MIN_CONTRAST = 40
"""Between the black and the white blocks, of 255: less is a grey smear, and no tone curve brings so little."""


def painted(number: int) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3)"""
    bits = np.array([number >> (BITS - 1 - k) & 1 for k in range(BITS)], np.uint8)
    blocks = np.stack([bits, 1 - bits]) * 255
    return np.repeat(np.kron(blocks, np.ones((BLOCK_PX, BLOCK_PX), np.uint8))[:, :, None], 3, axis=2)


def number_of(rgb_hwc: NDArray[np.uint8]) -> int | None:
    """The number that a picture of any size shows; None where it shows none."""
    height, width = rgb_hwc.shape[:2]
    if height < 2 or width < BITS:
        return None
    grey = rgb_hwc.mean(axis=2)
    blocks = np.array([[cell.mean() for cell in np.array_split(row, BITS, axis=1)] for row in np.array_split(grey, 2, axis=0)])
    middle = (blocks.max() + blocks.min()) / 2
    bits = blocks > middle
    clear = np.abs(blocks - middle).min() > MIN_CONTRAST / 2
    return int("".join(str(int(bit)) for bit in bits[0]), 2) if clear and (bits[0] ^ bits[1]).all() else None

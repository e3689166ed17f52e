"""Where a new shot begins: told from small grey pictures of the frames, in a fraction of a millisecond.

Own code, since the well-kept library for it (PySceneDetect) brings OpenCV, works on whole files and answers frame by frame only to those
who hand it every frame; frames here are sampled, a few per second, so that a moving camera changes much from one to the next.

A frame continues the shot before it if the two look alike somewhere: as they are, or with one moved against the other, as a camera that
pans moves them. Alike means correlated, which brightness and contrast do not change, so that neither a fade nor a flash ends a shot. A
frame without any structure (black, white, blurred away) is like none: it is passed over, and the next is compared with the one before.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LONGER_SIDE: Final = 48
"""Of the grey picture, in pixels."""
SAMPLES_PER_PIXEL: Final = 3
"""Of the frame, along each side, for one pixel of the grey picture."""

LEAST_STRUCTURE: Final = 4.0
"""Standard deviation of the grey levels (0 to 255) below which a frame shows nothing to compare."""
LEAST_LIKENESS: Final = 0.5
"""Correlation below which two frames are of two shots."""
LEAST_OVERLAP: Final = 0.5
"""Share of each side that two frames must have in common when one is moved against the other."""

Grey = NDArray[np.float32]


class Cuts:
    """Watches the frames of one video, in order."""

    def __init__(self) -> None:
        self._last: Grey | None = None

    def begins(self, rgb_hwc: NDArray[np.uint8]) -> bool:
        """Whether this frame, (H, W, 3) and as large as those before, is the first of a new shot. The first frame of all is not."""
        grey = thumbnail(rgb_hwc)
        if grey.std() < LEAST_STRUCTURE:
            return False
        last, self._last = self._last, grey
        return last is not None and likeness(last, grey) < LEAST_LIKENESS


def thumbnail(rgb_hwc: NDArray[np.uint8]) -> Grey:
    """The frame's grey levels on a coarse grid, each the mean of a few pixels."""
    height, width = rgb_hwc.shape[:2]
    step = max(1, max(height, width) // (LONGER_SIDE * SAMPLES_PER_PIXEL))
    samples = rgb_hwc[::step, ::step].mean(axis=2, dtype=np.float32)
    rows, columns = (max(1, side // SAMPLES_PER_PIXEL) for side in samples.shape)
    block = samples.shape[0] // rows, samples.shape[1] // columns
    even = samples[: rows * block[0], : columns * block[1]].reshape(rows, block[0], columns, block[1])
    grey: Grey = even.mean(axis=(1, 3))
    return grey


def likeness(one: Grey, other: Grey) -> float:
    """The best correlation, -1 to 1, of the parts that two pictures share when one is moved against the other.

    All moves at once, by Fourier transforms (Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012, with whole
    pictures for masks).
    """
    shape = (2 * one.shape[0], 2 * one.shape[1])
    whole = np.fft.rfft2(np.ones_like(one), shape)
    first, second = np.fft.rfft2(one - one.mean(), shape), np.conj(np.fft.rfft2(other - other.mean(), shape))
    first_squares, second_squares = np.fft.rfft2((one - one.mean()) ** 2, shape), np.conj(np.fft.rfft2((other - other.mean()) ** 2, shape))

    def summed(product: NDArray[np.complexfloating]) -> NDArray[np.floating]:
        return np.fft.irfft2(product, shape)

    count = np.maximum(summed(whole * np.conj(whole)), 1)
    first_sum, second_sum = summed(first * np.conj(whole)), summed(whole * second)
    together = summed(first * second) - first_sum * second_sum / count
    first_spread = summed(first_squares * np.conj(whole)) - first_sum**2 / count
    second_spread = summed(whole * second_squares) - second_sum**2 / count
    spread = np.sqrt(np.maximum(first_spread, 1) * np.maximum(second_spread, 1))
    enough = overlap_share(one.shape[0])[:, None] * overlap_share(one.shape[1])[None] > 0
    return float((together / spread)[enough].max())


def overlap_share(side: int) -> NDArray[np.floating]:
    """For each move 0, 1, ..., -2, -1 along a side: the share of it that two pictures then have in common, 0 if too little."""
    moves = np.fft.fftfreq(2 * side, 1 / (2 * side))
    share = 1 - np.abs(moves) / side
    result: NDArray[np.floating] = np.where(share >= LEAST_OVERLAP, share, 0)
    return result

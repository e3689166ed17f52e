"""Where a new shot begins, told from a few thousand pixels of each frame.

Own code, since the well-kept library for it (PySceneDetect) brings OpenCV and expects every frame of a file. Frames here are sampled, a few
per second, so that a moving camera changes much from one to the next, and so does somebody who walks past it.

A frame continues the shot before it if either its colours are about the same, which a pan, a zoom and moving people leave, or the picture
is, perhaps moved to a side: correlation does not change with brightness and contrast, so that neither a fade nor a lamp ends a shot. A
frame that shows next to nothing (black, white) is passed over, and one frame that differs from those before and after is a flash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from services.preprocess.decode.frames import Frame

LONGER_SIDE: Final = 32
"""Of the grey picture, in pixels."""
SAMPLES_PER_PIXEL: Final = 3
"""Pixels of the frame, along each side, for one of the grey picture."""
COLOUR_BITS: Final = 3
"""Per channel, by which colours are told apart."""

LEAST_STRUCTURE: Final = 4.0
"""Standard deviation of the grey levels (0 to 255) below which a frame shows nothing."""
SAME_COLOURS: Final = 0.6
"""Share of the pixels that two frames of one shot have in common in colour, whatever their places."""
SAME_PICTURE: Final = 0.55
"""Correlation of two frames of one shot. Pictures of different things reached 0.5 in 19 of 20 pairs, in the best of all places."""
LEAST_OVERLAP: Final = 2 / 3
"""Share of each side that two pictures must have in common when one is moved against the other."""
FLASH_MS: Final = 300
"""A picture that is back within this time was never away."""

Grey = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Glance:
    """What is kept of a frame."""

    pts_ms: int
    grey: Grey
    """(h, w): grey levels, a few dozen pixels a side."""
    colours: NDArray[np.float64]
    """Share of the pixels by colour, summing to 1."""

    @classmethod
    def at(cls, frame: Frame) -> Self:
        step = max(1, max(frame.rgb_hwc.shape) // (LONGER_SIDE * SAMPLES_PER_PIXEL))
        pixels = frame.rgb_hwc[::step, ::step]
        return cls(
            pts_ms=frame.pts_ms, grey=shrunk(pixels.mean(axis=2, dtype=np.float32), SAMPLES_PER_PIXEL), colours=colour_shares(pixels)
        )

    @property
    def blank(self) -> bool:
        return bool(self.grey.std() < LEAST_STRUCTURE)

    def continues(self, before: "Glance") -> bool:
        """Whether both can be of one shot."""
        return bool(np.minimum(self.colours, before.colours).sum() >= SAME_COLOURS) or likeness(self.grey, before.grey) >= SAME_PICTURE


class Cuts:
    """Watches the frames of one video, all of one size and in order of time."""

    def __init__(self) -> None:
        self._shot: Glance | None = None
        """The last frame that showed the shot that goes on."""

    def among(self, frames: Sequence[Frame], *, following: Frame | None = None) -> list[bool]:
        """Which frames are the first of a new shot. The first of the video is not.

        `following` is the first frame of the next call, None if there is none: whether the last of these frames is a flash can be told by
        that one alone. So it makes no difference in which batches a video is watched.
        """
        glances = [Glance.at(frame) for frame in frames]
        last = Glance.at(following) if following else None
        return [self._begins(glance, after=after) for glance, after in zip(glances, [*glances, last][1:], strict=True)]

    def _begins(self, glance: Glance, *, after: Glance | None) -> bool:
        """Whether a shot begins with this frame. What is passed over, a blank frame or a flash, is nothing that others are held to."""
        if glance.blank:
            return False
        cut = self._shot is not None and not glance.continues(self._shot)
        if cut and after is not None and self._is_back(after):
            return False
        self._shot = glance
        return cut

    def _is_back(self, glance: Glance) -> bool:
        """Whether a frame shows the shot again a moment later, so that what came between was only a flash."""
        shot = self._shot
        return shot is not None and glance.pts_ms - shot.pts_ms <= FLASH_MS and not glance.blank and glance.continues(shot)


def shrunk(grey: Grey, factor: int) -> Grey:
    """The means of squares of pixels; what is left over at the edges is left out."""
    rows, columns = (max(1, side // factor) for side in grey.shape)
    height, width = grey.shape[0] // rows, grey.shape[1] // columns
    means: Grey = grey[: rows * height, : columns * width].reshape(rows, height, columns, width).mean(axis=(1, 3))
    return means


def colour_shares(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    coarse = (pixels >> (8 - COLOUR_BITS)).reshape(-1, 3).astype(np.intp)
    numbers = coarse @ (1 << COLOUR_BITS * np.arange(3))
    return np.bincount(numbers, minlength=1 << 3 * COLOUR_BITS) / len(numbers)


def likeness(one: Grey, other: Grey) -> float:
    """The best correlation, -1 to 1, of what two pictures of one size share when one is moved against the other.

    All moves at once by Fourier transforms: Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012, where the masks
    are whole pictures.
    """
    shape = 2 * one.shape[0], 2 * one.shape[1]
    first, second = one - one.mean(), other - other.mean()
    spectra = {name: np.fft.rfft2(picture, shape) for name, picture in (("a", first), ("aa", first**2), ("b", second), ("bb", second**2))}
    whole = np.fft.rfft2(np.ones_like(one), shape)

    def shared(ours: NDArray[np.complexfloating], theirs: NDArray[np.complexfloating]) -> NDArray[np.floating]:
        """For each move: the sum of the products over the pixels that both have there."""
        return np.fft.irfft2(ours * np.conj(theirs), shape)

    count = np.maximum(shared(whole, whole), 1)
    sum_a, sum_b = shared(spectra["a"], whole), shared(whole, spectra["b"])
    together = shared(spectra["a"], spectra["b"]) - sum_a * sum_b / count
    spread_a = np.maximum(shared(spectra["aa"], whole) - sum_a**2 / count, 1)
    spread_b = np.maximum(shared(whole, spectra["bb"]) - sum_b**2 / count, 1)
    allowed = np.outer(small_moves(one.shape[0]), small_moves(one.shape[1]))
    return float((together / np.sqrt(spread_a * spread_b))[allowed].max())


def small_moves(side: int) -> NDArray[np.bool_]:
    """For each move 0, 1, ..., -2, -1 along a side: whether enough of it is shared."""
    moves = np.abs(np.fft.fftfreq(2 * side, 1 / (2 * side)))
    small: NDArray[np.bool_] = moves <= side * (1 - LEAST_OVERLAP)
    return small

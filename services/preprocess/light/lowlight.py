"""Seeing in the dark: which frames of a video are too dark, and what was done about it.

`Lowlight` is made once per worker, a `Brightening` once per video.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.preprocess.arrays import Pixels
from services.preprocess.light.brighten import METHODS, Brighten
from services.preprocess.light.luminance import light, mean_luma
from shared.jobs import Enhance
from shared.results import Enhancement

DEFAULT_METHOD: Final = "enlightengan"
"""What `tests.bench.lowlight` found to bring back the most; gamma, at less than a tenth of the cost, comes next."""

DARK_BELOW: Final = 0.35
"""The luminance rule: a picture with less light than this, as `services.preprocess.light.luminance` measures it, is brightened."""

MIDDLE: Final = -0.2
"""By how much of its sides a face's box grows to what says whether the face is dark: not by what is behind it."""

WITH_REGIONS: Final = 0.2
"""And to what its regions are cut from."""


class Lowlight:
    """One method, ready to be used by any number of videos one after another."""

    def __init__(self, *, method: str = DEFAULT_METHOD, dark_below: float = DARK_BELOW) -> None:
        """Raises ReleaseError, ModelDigestMismatch and ModelContractMismatch when the shipped network is not what it should be."""
        self._method = method
        self._brighten = METHODS[method]()
        self._dark_below = dark_below

    def brightening(self, enhance: Enhance) -> "Brightening":
        """What is done to one video, or to one set of pictures."""
        return Brightening(enhance, method=self._method, brighten=self._brighten, dark_below=self._dark_below)


class Brightening:
    """Brightens the frames of one video, and remembers how many and by how much."""

    def __init__(self, enhance: Enhance, *, method: str, brighten: Brighten, dark_below: float) -> None:
        self._enhance = enhance
        self._method = method
        self._brighten = brighten
        self._dark_below = dark_below
        self._touched = 0
        self._before = 0.0
        self._after = 0.0

    def frame(self, rgb_hwc: Pixels) -> Pixels:
        """A frame, uint8 (H, W, 3) RGB, brightened if it is dark; else the very same object."""
        if not self._is_wanted(rgb_hwc):
            return rgb_hwc
        brighter = self._brighten(rgb_hwc)
        self._count(rgb_hwc, brighter)
        return brighter

    def faces(self, rgb_hwc: Pixels, boxes_xyxy: npt.NDArray[np.float32]) -> Pixels:
        """A frame in which dark faces, as before a bright window, are brightened together with what is around them.

        For frames that `frame` has left alone, once their faces are found: boxes are (N, 4) in pixels. The very same object is given back
        when no face is dark; the frame that is handed in is never changed.
        """
        middles, places = (squares(boxes_xyxy, rgb_hwc.shape, more=more) for more in (MIDDLE, WITH_REGIONS))
        places = [place for middle, place in zip(middles, places, strict=True) if self._is_wanted(rgb_hwc[middle])]
        if not places:
            return rgb_hwc
        brighter = rgb_hwc.copy()
        for place in places:
            brighter[place] = self._brighten(np.ascontiguousarray(rgb_hwc[place]))
        self._count(rgb_hwc, brighter)
        return brighter

    def _count(self, before: Pixels, after: Pixels) -> None:
        self._touched += 1
        self._before += mean_luma(before)
        self._after += mean_luma(after)

    def _is_wanted(self, rgb_hwc: Pixels) -> bool:
        if self._method == "none" or self._enhance is Enhance.NEVER:
            return False
        return self._enhance is Enhance.ALWAYS or light(rgb_hwc) < self._dark_below

    def report(self) -> Enhancement:
        """What was done so far."""
        if not self._touched:
            return Enhancement(asked=self._enhance)
        before, after = (round(total / self._touched, 4) for total in (self._before, self._after))
        return Enhancement(asked=self._enhance, method=self._method, frames=self._touched, luminance_before=before, luminance_after=after)


def squares(boxes_xyxy: npt.NDArray[np.float32], shape: tuple[int, ...], *, more: float) -> list[tuple[slice, slice]]:
    """Boxes with this share of their sides more at each side, as rows and columns of their frame: a pixel of it at least."""
    height, width = shape[:2]
    lefts, tops, rights, bottoms = boxes_xyxy.T
    more_x, more_y = more * (rights - lefts), more * (bottoms - tops)
    rows, columns = within(tops - more_y, bottoms + more_y, height), within(lefts - more_x, rights + more_x, width)
    return list(zip(rows, columns, strict=True))


def within(starts: npt.NDArray[np.float32], stops: npt.NDArray[np.float32], side: int) -> list[slice]:
    firsts = starts.round().astype(int).clip(0, side - 1)
    lasts = stops.round().astype(int).clip(firsts + 1, side)
    return [slice(first, last) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]

"""Ways to brighten a dark picture, each a function from uint8 (H, W, 3) RGB to the same shape."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from services.preprocess.arrays import Pixels
from services.preprocess.light.enlightener.generator import Brightener
from services.preprocess.light.luminance import LEAST_LUMA, mean_luma

Brighten = Callable[[Pixels], Pixels]

WELL_LIT: Final = 0.46
"""Mean luma of well lit faces: the median of 7,543 press pictures."""

STEEPEST: Final = 0.15
"""The smallest exponent: below it a black picture becomes a grey one."""


def gamma(rgb_hwc: Pixels) -> Pixels:
    """The one exponent that takes the picture's mean luma to that of a well lit one; a brighter picture stays as it is."""
    mean = max(mean_luma(rgb_hwc), LEAST_LUMA)
    if mean >= WELL_LIT:
        return rgb_hwc
    exponent = max(STEEPEST, math.log(WELL_LIT) / math.log(mean))
    curve = (np.linspace(0, 1, 256) ** exponent * 255).round().astype(np.uint8)
    return curve[rgb_hwc]


def equalise(rgb_hwc: Pixels) -> Pixels:
    """Luma spread evenly over what can be shown (histogram equalisation), colour differences as they were."""
    luma, *colours = Image.fromarray(rgb_hwc).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (ImageOps.equalize(luma), *colours)).convert("RGB"))


def unchanged(rgb_hwc: Pixels) -> Pixels:
    return rgb_hwc


METHODS: Final[dict[str, Callable[[], Brighten]]] = {
    "enlightengan": lambda: Brightener().brighten,
    "gamma": lambda: gamma,
    "equalise": lambda: equalise,
    "none": lambda: unchanged,
}
"""What makes each of them ready; EnlightenGAN's reads its network, so it is done once per worker."""

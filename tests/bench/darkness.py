"""Pictures as they would have been in less light, by known amounts: exposure in linear light, a sensor's noise, quantised."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from services.preprocess.faces.regions import Pixels
from training.enlighten.darkness import Darkness, darkened
from training.enlighten.measure import EXPOSURES, READ_NOISE, SHOT_NOISE

DAYLIGHT: Final = 1.0
ALL_EXPOSURES: Final = (DAYLIGHT, *EXPOSURES)


def in_the_dark(pictures: Sequence[Pixels], exposure: float) -> list[Pixels]:
    """The same pictures with so much of their light, and noise of its own in each; daylight is left as it is."""
    if exposure == DAYLIGHT:
        return list(pictures)
    draw = torch.Generator().manual_seed(0)
    amount = Darkness.known(1, exposure=exposure, read_noise=READ_NOISE, shot_noise=SHOT_NOISE)
    planes = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] for picture in pictures)
    return [np.ascontiguousarray(darkened(each, amount, draw)[0].permute(1, 2, 0).numpy()) for each in planes]


def named(exposure: float) -> str:
    return "daylight" if exposure == DAYLIGHT else f"1/{round(1 / exposure)}"

"""Brightening a whole frame with a network at a cost that a CPU can pay.

The generator sees the frame reduced. What it does to each place, told as a factor on the odds of luma, `y / (1 - y)`, is smoothed,
enlarged and done to every pixel of the frame: detail comes from the frame alone, colours keep their hue, white stays white, and noise
grows no more than what it lies on.
"""

import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from services.preprocess.arrays import Pixels
from shared.enlighteners import GENERATOR, STRIDE, read
from shared.errors import ModelContractMismatch
from shared.pixels import LUMA

SHIPPED: Final = Path(__file__).parent

LONGEST_SIDE_PX: Final = 160
"""Of the frame that the generator sees."""

FACE_PX: Final = 21
"""Side of the square of the reduced frame whose mean stands for its middle: about a face, so that a face's own shades are kept."""

MOST: Final = 60.0
"""The largest factor on the odds of luma: what nothing can be seen in stays as it is, instead of becoming noise."""

LEAST_LUMA: Final = 1 / 255
"""The nearest that luma comes to black, and to white: the odds of either would be without end."""


class Brightener:
    """The shipped network, on the CPU. Blocking; knows nothing about the frame before."""

    def __init__(self, folder: Path = SHIPPED) -> None:
        """Raises ReleaseError, ModelDigestMismatch and ModelContractMismatch where the folder does not hold what it names."""
        read(folder)
        self._network = torchscript(folder / GENERATOR).float().eval()

    @torch.inference_mode()
    def brighten(self, rgb_hwc: Pixels) -> Pixels:
        """One frame, uint8 (H, W, 3), in its own size."""
        factors = self._factors(rgb_hwc)[None, None]
        whole = nn.functional.interpolate(factors, size=rgb_hwc.shape[:2], mode="bilinear", align_corners=False)[0, 0, :, :, None]
        colours = torch.from_numpy(rgb_hwc.astype(np.float32)).mul_(1 / 255)
        brighter = colours * whole
        scaled = brighter.div_((brighter - colours).add_(1)).mul_(255).round_()
        return scaled.to(torch.uint8).numpy()

    def _factors(self, rgb_hwc: Pixels) -> Tensor:
        """By how much the odds of luma grow, from 1 to MOST, at each place of the reduced frame: fp32 (h, w)."""
        small = np.array(Image.fromarray(rgb_hwc).resize(reduced_size(rgb_hwc), Image.Resampling.BILINEAR, reducing_gap=2))
        planes = torch.from_numpy(small).permute(2, 0, 1)[None]
        before, after = luma(planes / 255), luma(self._network(planes))
        return (odds(smooth(after)) / odds(smooth(before))).clamp(1, MOST)[0, 0]


def torchscript(path: Path) -> torch.jit.ScriptModule:
    """Without torch's one announcement that TorchScript will not be developed further. Raises ModelContractMismatch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated")
        try:
            module: torch.jit.ScriptModule = torch.jit.load(str(path))
        except RuntimeError as error:
            raise ModelContractMismatch(f"{path.name} is no TorchScript") from error
    return module


def reduced_size(rgb_hwc: Pixels) -> tuple[int, int]:
    """Width and height that the generator sees a frame at: multiples of its stride, at least one, and no enlargement by more."""
    height, width = rgb_hwc.shape[:2]
    shrink = min(1.0, LONGEST_SIDE_PX / max(height, width))
    return stepped(width * shrink), stepped(height * shrink)


def stepped(side: float) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)


def luma(pictures: Tensor) -> Tensor:
    """(B, 3, h, w) to (B, 1, h, w)."""
    return (pictures * torch.tensor(LUMA).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def smooth(lumas: Tensor) -> Tensor:
    """The mean around each place; at the edges, of what there is."""
    for sides in ((FACE_PX, 1), (1, FACE_PX)):  # one direction after the other gives the same mean for a tenth of the work
        padding = (sides[0] // 2, sides[1] // 2)
        lumas = nn.functional.avg_pool2d(lumas, sides, stride=1, padding=padding, count_include_pad=False)
    return lumas


def odds(lumas: Tensor) -> Tensor:
    known = lumas.clamp(LEAST_LUMA, 1 - LEAST_LUMA)
    return known / (1 - known)

"""The attention-guided U-Net and the discriminators, as published, with a setting that scales their widths.

picture (B, 3, H, W) from -1 to 1, attention = 1 - luma
[picture, attention] -> 5 blocks down, max-pooling between -> 4 blocks up, bilinear, each beside its skip x attention
-> 1x1 -> residual;   picture + residual x attention
"""

import torch
from torch import Tensor, nn

from shared.enlighteners import STRIDE
from shared.pixels import LUMA

STAGE_CHANNELS = (32, 64, 128, 256, 512)
DISCRIMINATOR_CHANNELS = 64
MOST_WIDENING = 8
"""Of a discriminator's last layers over its first one."""
SLOPE = 0.2


def stage_widths(width: float) -> list[int]:
    """Channels of each stage of the generator."""
    return [max(8, round(channels * width / 8) * 8) for channels in STAGE_CHANNELS]


def luma_of(pictures: Tensor) -> Tensor:
    """ITU-R BT.601 luma (B, 1, H, W) from 0 to 1 of pictures (B, 3, H, W) from -1 to 1."""
    red, green, blue = (weight * pictures[:, colour : colour + 1] for colour, weight in enumerate(LUMA))
    return (red + green + blue + 1) / 2


def block(inputs: int, outputs: int, *, normalised: bool = True) -> nn.Sequential:
    """Twice a 3x3 convolution, LeakyReLU and batch normalisation, in this order; without the last one where it is not wanted."""
    layers = [(nn.Conv2d(before, outputs, 3, padding=1), nn.LeakyReLU(SLOPE), nn.BatchNorm2d(outputs)) for before in (inputs, outputs)]
    return nn.Sequential(*[layer for group in layers for layer in group][: None if normalised else -1])


class Generator(nn.Module):
    """Dark pictures to bright ones; sides are multiples of STRIDE."""

    def __init__(self, width: float) -> None:
        super().__init__()
        widths = stage_widths(width)
        self.down = nn.ModuleList(block(before, after) for before, after in zip([4, *widths], widths, strict=False))
        self.narrow = nn.ModuleList(nn.Conv2d(below, here, 3, padding=1) for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True))
        # The last block ends without normalisation, which would take away how bright a picture is.
        self.up = nn.ModuleList(block(2 * here, here, normalised=level > 0) for level, here in reversed(list(enumerate(widths[:-1]))))
        self.residual = nn.Conv2d(widths[0], 3, 1)
        nn.init.zeros_(self.residual.weight)  # it begins by changing nothing, which is nearer to what is wanted than chance is
        nn.init.zeros_(self.residual.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) from -1 to 1, to the same; what is brighter than white is for the caller to cut off."""
        attention = 1 - luma_of(pictures)
        skips: list[Tensor] = []
        scaled = attention
        x = self.down[0](torch.cat([pictures, attention], dim=1))
        for stage in list(self.down)[1:]:
            skips.append(x * scaled)
            scaled = nn.functional.max_pool2d(scaled, 2)
            x = stage(nn.functional.max_pool2d(x, 2))
        for narrow, stage in zip(self.narrow, self.up, strict=True):
            x = narrow(nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
            x = stage(torch.cat([x, skips.pop()], dim=1))
        residual: Tensor = self.residual(x)
        return pictures + residual * attention


assert 2 ** (len(STAGE_CHANNELS) - 1) == STRIDE  # noqa: S101


def discriminator(layers: int, width: float) -> nn.Sequential:
    """A PatchGAN without normalisation: pictures (B, 3, H, W) to a map of how real each part looks (B, 1, h, w).

    5 layers judge the whole picture, 4 a patch of it.
    """
    first = max(8, round(DISCRIMINATOR_CHANNELS * width))
    widths = [3, *(first * min(2**layer, MOST_WIDENING) for layer in range(layers + 1))]
    strides = [2] * layers + [1]
    convolutions = [
        nn.Conv2d(before, after, 4, stride, padding=2) for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True)
    ]
    hidden = [layer for convolution in convolutions for layer in (convolution, nn.LeakyReLU(SLOPE))]
    return nn.Sequential(*hidden, nn.Conv2d(widths[-1], 1, 4, 1, padding=2))

"""Darkness of a known amount: what a sensor makes of a scene with less light."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from training.enlighten.settings import Darkening, Range

SCREEN_GAMMA = 2.2
"""From linear light to what a picture's bytes say."""


@dataclass(frozen=True, kw_only=True)
class Darkness:
    """How a batch of B pictures is darkened, float32."""

    exposure: Tensor
    """Factor on linear light: (B, 3, 1, 1), or (B, 3, 1, W) where one side has more of it."""
    gamma: Tensor
    """(B, 1, 1, 1)"""
    read_noise: Tensor
    """(B, 1, 1, 1): standard deviation, in fractions of full linear light."""
    shot_noise: Tensor
    """(B, 1, 1, 1): variance, in fractions of the light itself."""

    @classmethod
    def known(cls, pictures: int, *, exposure: float, gamma: float = 1.0, read_noise: float = 0.0, shot_noise: float = 0.0) -> Self:
        """The same for all pictures."""

        def all_of_them(value: float) -> Tensor:
            return torch.full((pictures, 1, 1, 1), value)

        return cls(
            exposure=all_of_them(exposure).expand(-1, 3, -1, -1),
            gamma=all_of_them(gamma),
            read_noise=all_of_them(read_noise),
            shot_noise=all_of_them(shot_noise),
        )

    @classmethod
    def drawn(cls, pictures: int, width_px: int, strengths: Darkening, draw: torch.Generator) -> Self:
        """Another one for each picture."""

        def within(limits: Range) -> Tensor:
            least, most = limits
            return least + (most - least) * torch.rand(pictures, 1, 1, 1, generator=draw)

        least, most = strengths.exposure
        darkest = within((math.log(least), math.log(most)))
        cast = 1 + strengths.cast * (2 * torch.rand(pictures, 3, 1, 1, generator=draw) - 1)
        is_uneven = (torch.rand(pictures, 1, 1, 1, generator=draw) < strengths.uneven).float()
        across = torch.linspace(0, 1, width_px)[None, None, None]
        mirrored = torch.where(torch.rand(pictures, 1, 1, 1, generator=draw) < 0.5, across, 1 - across)
        return cls(
            exposure=torch.exp(darkest * (1 - is_uneven * mirrored)) * cast,
            gamma=within(strengths.gamma),
            read_noise=within(strengths.read_noise),
            shot_noise=within(strengths.shot_noise),
        )


def darkened(pictures: Tensor, darkness: Darkness, draw: torch.Generator) -> Tensor:
    """uint8 (B, 3, H, W) in, the same out, quantised as any picture is: what went under a step is lost."""
    light = (pictures.float() / 255).pow(SCREEN_GAMMA) * darkness.exposure
    deviation = (darkness.read_noise.square() + darkness.shot_noise * light).sqrt()
    sensed = (light + deviation * torch.randn(light.shape, generator=draw)).clamp(0, 1)
    shown = sensed.pow(1 / SCREEN_GAMMA).pow(darkness.gamma)
    return (shown * 255).round().to(torch.uint8)

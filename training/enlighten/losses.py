"""What the generator and the discriminators are told they did wrong (paper, section 3)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Features = Callable[[Tensor], Tensor]


def relativistic(more_real: Tensor, less_real: Tensor) -> Tensor:
    """Relativistic average LSGAN: the one should look more real than the other does on average, by one, and the other way round.

    The discriminator's loss is that of (real, fake), the generator's that of (fake, real).
    """
    above, below = more_real - less_real.mean(), less_real - more_real.mean()
    return ((above - 1).square().mean() + below.square().mean()) / 2


def least_squares(verdicts: Tensor, *, real: bool) -> Tensor:
    """LSGAN: 1 for real, 0 for fake."""
    return (verdicts - float(real)).square().mean()


def self_feature_preserving(features: Features, before: Tensor, after: Tensor) -> Tensor:
    """How much of what a picture shows was changed with its light: between instance-normalised features, so that light itself is free."""
    with torch.no_grad():
        kept = nn.functional.instance_norm(features(before))
    return nn.functional.mse_loss(nn.functional.instance_norm(features(after)), kept)

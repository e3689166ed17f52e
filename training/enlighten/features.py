"""The eyes of the self feature preserving loss: the first layers of a release's trunk.

The paper has VGG-16 as ImageNet taught it. A release has learnt what is to be kept here, namely what a face expresses; and its
weights are ours. It sees luma only, so this loss says nothing about colours. And light itself is in
every channel of it, also after instance normalisation: brightening by a twentieth cost twice what it won, and the generator learnt to
change nothing. So pictures are instance-normalised before it sees them, too.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from shared.expressions import REGIONS
from shared.releases import MANIFEST, WEIGHTS, read
from training.export import read_release_network
from training.network import FrameEncoder
from training.plan import Design

STAGES = 2
"""Residual stages that are looked through: a position of the map then stands for 8 by 8 pixels."""


class TrunkFeatures(nn.Module):
    """The face's part of a trunk, frozen."""

    def __init__(self, encoder: FrameEncoder, *, width: float) -> None:
        super().__init__()
        alone = FrameEncoder(Design(width=width, regions=("face",)))
        for own, theirs in ((alone.stem, encoder.stem), (alone.stages, encoder.stages)):
            own.load_state_dict({name: first_region(value) for name, value in theirs.state_dict().items()})
        self.layers = nn.Sequential(alone.stem, *list(alone.stages)[:STAGES]).eval().requires_grad_(False)
        self.layers.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "TrunkFeatures":  # noqa: ARG002 -- what it sees never depends on who is learning
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) from -1 to 1, to (B, C, H / 8, W / 8)."""
        maps: Tensor = self.layers(nn.functional.instance_norm(pictures))
        return maps


def first_region(values: Tensor) -> Tensor:
    """Regions never mix in the trunk: the face's channels are the first third of every tensor."""
    return values[: len(values) // len(REGIONS)] if values.dim() else values


def release_features(weights: Path) -> tuple[TrunkFeatures, str]:
    """Those of a release's weights folder, and the release's name. Raises ReleaseError and ModelContractMismatch."""
    release = read(weights / MANIFEST)
    return TrunkFeatures(read_release_network(release, weights / WEIGHTS).encoder, width=release.width), release.name

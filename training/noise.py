"""What makes the student's life hard: the paper's noise (section 3.3), from torchvision's transforms.

Flips, translation, contrast, brightness, sharpness and dropout; each draw is applied identically to all regions and
frames of a clip, so that what they say about each other stays true. A batch is cut into groups of clips that share a
draw, and a draw depends on the seed, the step and the group alone: it is the same whichever process works on the group.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from shared.expressions import REGIONS
from training.plan import NoiseStrengths

SEEDS = 2**63


class Noise:
    """Draws noise for one group of clips at a time."""

    def __init__(self, strengths: NoiseStrengths, *, seed: int) -> None:
        self._strengths = strengths
        self._seed = seed
        self._transform = transform(strengths)
        self.groups = strengths.groups_per_batch

    def faces(self, faces: Tensor, *, step: int, group: int) -> Tensor:
        """uint8 (F, 3, S, S), all frames of a group's clips, in; the same shape out."""
        with drawn_from(self._seed, step, group, 0):
            noisy: Tensor = self._transform(faces.unflatten(1, (len(REGIONS), -1))).flatten(1, 2)
        return noisy

    def some(self, frames: Tensor, most: int, *, step: int, group: int) -> Tensor:
        """At most so many of a clip's frames (T, 3, S, S), in order: others each time."""
        if len(frames) <= most:
            return frames
        with drawn_from(self._seed, step, group, 2):
            return frames[torch.randperm(len(frames))[:most].sort().values]

    def kept(self, clips: int, features: int, *, step: int, group: int) -> Tensor:
        """What dropout leaves of a group's clip vectors: float32 (clips, features) of 0 and 1 / (1 - dropout)."""
        with drawn_from(self._seed, step, group, 1):
            return nn.functional.dropout(torch.ones(clips, features), self._strengths.dropout)


@contextmanager
def drawn_from(*seed: int) -> Iterator[None]:
    """torchvision draws from torch's global generator: lend it one of our own, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(hash(seed) % SEEDS)  # hashes of numbers are the same in every process, unlike those of strings
        yield


def transform(strengths: NoiseStrengths) -> v2.Transform:
    """The transform of one group's draw, on (F, regions, colours, S, S)."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(strengths.flip),
            v2.RandomAffine(
                degrees=strengths.rotation_degrees,
                translate=(strengths.translation, strengths.translation),
                scale=(1 - strengths.scale, 1 + strengths.scale),
                interpolation=InterpolationMode.BILINEAR,
            ),
            v2.ColorJitter(brightness=strengths.brightness, contrast=strengths.contrast),
            v2.RandomAdjustSharpness(strengths.sharpness),
            v2.RandomErasing(strengths.erasing, scale=(0.02, 0.15), value=128),
        ]
    )

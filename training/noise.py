"""What makes the student's life hard: the paper's input noise (section 3.3), from torchvision's transforms.

Flips, translation, contrast, brightness and sharpness; each draw is applied identically to all regions and frames of a
clip, so that what the regions say about each other stays true. Rotation and scale stand for the detector's own error.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Strengths; zero turns one off, but for sharpness."""

    brightness: float = 0.4
    """Factors from 1 - this to 1 + this; so for contrast."""
    contrast: float = 0.4
    sharpness: float = 2.0
    """Factor for every second group; 1 leaves the picture as it is, 0 blurs it."""
    translation: float = 0.08
    """Fraction of the crop's side."""
    rotation_degrees: float = 10.0
    scale: float = 0.12
    draws_per_batch: int = 16
    """A batch is cut into this many groups that share a draw: one transform per face would cost more than the network."""

    def __call__(self, faces: Tensor) -> Tensor:
        """uint8 (N, 9, S, S) in, the same shape out; draws come from torch's global generator."""
        transform = self.transform()
        groups = faces.chunk(self.draws_per_batch)
        return torch.cat([transform(group.unflatten(1, (3, 3))).flatten(1, 2) for group in groups])

    def transform(self) -> v2.Transform:
        return v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomAffine(
                    degrees=self.rotation_degrees,
                    translate=(self.translation, self.translation),
                    scale=(1 - self.scale, 1 + self.scale),
                    interpolation=InterpolationMode.BILINEAR,
                ),
                v2.ColorJitter(brightness=self.brightness, contrast=self.contrast),
                v2.RandomAdjustSharpness(self.sharpness),
            ]
        )

"""Small crop stores and training parts, made on the spot."""

import pytest
import torch

from shared.expressions import LABELS
from training.datasets import Faces


def painted_faces(count: int, *, name: str = "painted", size: int = 32, seed: int = 0) -> Faces:
    """Faces whose label can be seen: each label is a bright bar at a height of its own (so that a flip keeps it), on noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(LABELS)
    pixels = torch.randint(0, 80, (count, 1, size, size), generator=generator)
    bar = size // len(LABELS)
    for row, label in enumerate(labels.tolist()):
        pixels[row, :, label * bar : (label + 1) * bar] += 150
    faces = pixels.to(torch.uint8).expand(count, 9, size, size).contiguous()
    return Faces(
        name=name, licence="CC0", sha256="0" * 64, faces=faces, labels=labels, subjects=tuple(f"person {row % 10}" for row in range(count))
    )


@pytest.fixture
def painted() -> Faces:
    return painted_faces(140)

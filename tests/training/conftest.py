"""Small parts to train with, made on the spot."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.painted import painted_clips
from training.datasets import Clips
from training.plan import Design, NoiseStrengths, Recipe, Stretch

TINY = Recipe(
    design=Design(width=0.125), stretches=(Stretch(epochs=4, size=32),), batch=28, average_decay=0.9, attention_steps=20, bfloat16=False
)
"""Learns painted faces within seconds."""

UPRIGHT = NoiseStrengths(translation=0, rotation_degrees=0, scale=0, groups_per_batch=4)
"""Noise that leaves the bars of painted faces at their heights."""


@pytest.fixture
def painted() -> Clips:
    return painted_clips(140)


@pytest.fixture
def recipe() -> Recipe:
    return TINY


@pytest.fixture
def noise() -> NoiseStrengths:
    return UPRIGHT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own: less than any checkpoint."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip("only root may mount a small disk")  # a machine's right, not a missing server: no failure in CI either
    yield folder
    subprocess.run(["umount", str(folder)], check=True)

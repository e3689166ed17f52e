"""Faces whose label can be seen, so that a tiny network learns them in seconds: a bright bar at a height of its own, on noise."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store
from shared.expressions import LABELS
from shared.releases import PREPROCESS_VERSION, file_sha256
from tests.samples import write_samples
from training.datasets import Clips

SIZE = 32


def painted_pixels(labels: list[int], *, seed: int = 0) -> Tensor:
    """uint8 (N, 3, 32, 32)"""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 80, (len(labels), 1, SIZE, SIZE), generator=generator)
    bar = SIZE // len(LABELS)
    for row, label in enumerate(labels):
        pixels[row, :, label * bar : (label + 1) * bar] += 150
    return pixels.to(torch.uint8).expand(-1, 3, -1, -1).contiguous()


def painted_clips(count: int, *, name: str = "painted", frames: int = 1, seed: int = 0, labelled: bool = True, people: int = 10) -> Clips:
    """`count` clips of `frames` frames; labels take turns, and so do subjects."""
    labels = torch.arange(count) % len(LABELS)
    targets = torch.nn.functional.one_hot(labels, len(LABELS)).float()
    return Clips(
        name=name,
        licence="CC0",
        sha256=f"{seed:064x}",
        frames=painted_pixels(labels.repeat_interleave(frames).tolist(), seed=seed),
        first=torch.arange(count) * frames,
        count=torch.full((count,), frames),
        targets=targets if labelled else torch.zeros_like(targets),
        subjects=tuple(f"person {row // len(LABELS) % people}" for row in range(count)),
        sources=tuple(f"{name}#{row}" for row in range(count)),
        licences=("CC0",) * count,
    )


def write_painted_store(
    folder: Path, count: int, *, frames: int = 1, seed: int = 0, labelled: bool = True, people: int = 10, **more: object
) -> Path:
    """The same clips as a crop store on the disk, named after its folder. `more` is what `store.json` says beside that."""
    clips = painted_clips(count, name=folder.name, frames=frames, seed=seed, people=people)
    folder.mkdir(parents=True)
    np.save(folder / FRAMES, clips.frames.repeat_interleave(3, dim=1).numpy())
    samples = [
        Sample(first=first, count=frames, label=LABELS[label] if labelled else None, subject=subject, source=source, aligned=True)
        for first, label, subject, source in zip(clips.first.tolist(), clips.labels.tolist(), clips.subjects, clips.sources, strict=True)
    ]
    write_samples(folder / SAMPLES, samples)
    store = Store(
        **{
            "name": folder.name,
            "licence": "CC0",
            "preprocess": PREPROCESS_VERSION,
            "size": SIZE,
            "frames": len(clips.frames),
            "samples": count,
            "sha256": {name: file_sha256(folder / name) for name in (FRAMES, SAMPLES)},
            **more,
        }
    )
    (folder / STORE).write_text(store.model_dump_json())
    return folder

"""Crop stores as tensors: what to learn from, and what to be measured on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, read_samples
from shared.errors import MienError
from shared.expressions import LABELS
from shared.releases import PREPROCESS_VERSION, file_sha256
from training.network import LUMA


class DataUnusable(MienError):
    """The data cannot be learnt from or measured on."""


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Labelled clips of one frame, held in memory."""

    name: str
    licence: str
    sha256: str
    faces: Tensor
    """uint8 (N, 9, S, S)."""
    labels: Tensor
    """int64 (N,), indices into LABELS."""
    subjects: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.subjects)
        if count == 0:
            raise DataUnusable(f"{self.name} has no usable sample on this side")
        if self.faces.shape[0] != count or self.labels.shape != (count,) or self.faces.dtype != torch.uint8:
            raise ValueError(f"{tuple(self.faces.shape)} {self.faces.dtype} faces, {tuple(self.labels.shape)} labels, {count} subjects")

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def size(self) -> int:
        return int(self.faces.shape[-1])

    def part(self, rows: list[int]) -> "Faces":
        index = torch.tensor(rows, dtype=torch.int64)
        return Faces(
            name=self.name,
            licence=self.licence,
            sha256=self.sha256,
            faces=self.faces[index],
            labels=self.labels[index],
            subjects=tuple(self.subjects[row] for row in rows),
        )


def read_faces(folder: Path) -> Faces:
    """Read the labelled, consented samples of a crop store.

    Raises DataUnusable when its files are not the ones that were harvested, or not by this cropping code.
    """
    store = Store.model_validate_json((folder / STORE).read_bytes())
    if store.preprocess != PREPROCESS_VERSION:
        raise DataUnusable(f"{folder.name} was cropped by {store.preprocess}, this is {PREPROCESS_VERSION}")
    for name, digest in store.sha256.items():
        if file_sha256(folder / name) != digest:
            raise DataUnusable(f"{folder.name}/{name} is not the file that was harvested")
    samples = [sample for sample in read_samples(folder / SAMPLES) if usable(sample)]
    if any(sample.count > 1 for sample in samples):
        raise DataUnusable(f"{folder.name} holds clips of several frames; only pictures can be learnt from so far")
    frames = np.load(folder / FRAMES, mmap_mode="r")
    return Faces(
        name=store.name,
        licence=store.licence,
        sha256=hashlib.sha256("".join(sorted(store.sha256.values())).encode()).hexdigest(),
        faces=luma(torch.from_numpy(frames[[sample.first for sample in samples]])),
        labels=torch.tensor([LABELS.index(sample.label) for sample in samples if sample.label]),
        subjects=tuple(sample.subject for sample in samples),
    )


def luma(faces: Tensor) -> Tensor:
    """uint8 (N, 9, S, S) with each region's colours replaced by their ITU-R BT.601 luma.

    Where most pictures are grey, colour tells which set a picture came from, and so what its label is likely to be. A
    network that may see it learns that, and judges every coloured video by it.
    """
    grey = torch.empty_like(faces)
    weights = torch.tensor(LUMA).reshape(1, 1, 3, 1, 1)
    for source, target in zip(faces.split(1024), grey.split(1024), strict=True):
        target.unflatten(1, (3, 3)).copy_((source.unflatten(1, (3, 3)) * weights).sum(dim=2, keepdim=True).round())
    return grey


def usable(sample: Sample) -> bool:
    return sample.label is not None and sample.consent


def split_by_subject(faces: Faces, *, held_out: float) -> tuple[Faces, Faces]:
    """Split into (kept, held out) so that no subject is on both sides; a subject always falls on the same side.

    Raises DataUnusable when a side has nothing.
    """
    threshold = int(held_out * 2**32)
    out = [int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big") < threshold for subject in faces.subjects]
    kept_rows = [row for row, is_out in enumerate(out) if not is_out]
    out_rows = [row for row, is_out in enumerate(out) if is_out]
    return faces.part(kept_rows), faces.part(out_rows)

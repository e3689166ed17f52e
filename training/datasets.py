"""Crop stores as tensors: what to learn from, and what to be measured on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, read_samples
from shared.errors import ModelContractMismatch
from shared.expressions import LABELS
from shared.releases import PREPROCESS_VERSION


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
    """Read the labelled, consented samples of a crop store. Raises ModelContractMismatch for other cropping code."""
    store = Store.model_validate_json((folder / STORE).read_bytes())
    if store.preprocess != PREPROCESS_VERSION:
        raise ModelContractMismatch(f"{folder.name} was cropped by {store.preprocess}, this is {PREPROCESS_VERSION}")
    frames = np.load(folder / FRAMES, mmap_mode="r")
    samples = [sample for sample in read_samples(folder / SAMPLES) if usable(sample)]
    return Faces(
        name=store.name,
        licence=store.licence,
        sha256=hashlib.sha256("".join(sorted(store.sha256.values())).encode()).hexdigest(),
        faces=torch.from_numpy(frames[[sample.first for sample in samples]]),
        labels=torch.tensor([LABELS.index(sample.label) for sample in samples if sample.label]),
        subjects=tuple(sample.subject for sample in samples),
    )


def usable(sample: Sample) -> bool:
    return sample.label is not None and sample.consent


def split_by_subject(faces: Faces, *, held_out: float) -> tuple[Faces, Faces]:
    """Split into (kept, held out) so that no subject is on both sides; a subject always falls on the same side."""
    threshold = int(held_out * 2**32)
    out = [int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big") < threshold for subject in faces.subjects]
    kept_rows = [row for row, is_out in enumerate(out) if not is_out]
    out_rows = [row for row, is_out in enumerate(out) if is_out]
    return faces.part(kept_rows), faces.part(out_rows)

"""Crop stores as tensors: what to learn from, and what to be measured on."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, read_samples
from shared.errors import ClassMissing, DataUnusable, LabelUnknown, SubjectsLeak
from shared.expressions import LABELS, REGIONS
from shared.pixels import LUMA
from shared.releases import PREPROCESS_VERSION, file_sha256
from shared.videos import storage_errors

FRAMES_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of one face each, a picture being a clip of one frame. Held in memory, a byte per pixel and region."""

    name: str
    licence: str
    sha256: str
    """Of the crop store they were read from."""
    frames: Tensor
    """uint8 (F, 3, S, S): luma of face, eyes and mouth."""
    first: Tensor
    """int64 (N,): row of each clip's first frame."""
    count: Tensor
    """int64 (N,): frames of each clip, which lie in a row."""
    targets: Tensor
    """float32 (N, 7): one-hot where people labelled, soft where a teacher did, all zero where nobody did."""
    subjects: tuple[str, ...]
    sources: tuple[str, ...]
    licences: tuple[str, ...]
    """Of each clip: sets are mixed, terms are not."""
    pseudo_labeller: str | None = None
    """The network that gave `targets`, where people did not."""
    held_out: float = 0.0
    """Share of the store's subjects that was split off, whichever side of the split these clips are."""

    def __post_init__(self) -> None:
        clips = len(self.subjects)
        if clips == 0:
            raise DataUnusable(f"{self.name} has no usable sample on this side")
        shapes = (self.first.shape, self.count.shape, self.targets.shape, len(self.sources), len(self.licences))
        if shapes != ((clips,), (clips,), (clips, len(LABELS)), clips, clips) or self.frames.dtype != torch.uint8:
            raise ValueError(f"{clips} subjects, {shapes}, frames {tuple(self.frames.shape)} {self.frames.dtype}")
        if int((self.first + self.count).max()) > len(self.frames) or int(self.count.min()) < 1:
            raise DataUnusable(f"{self.name} names frames that it does not have")

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def size(self) -> int:
        """S, in pixels."""
        return int(self.frames.shape[-1])

    @property
    def labels(self) -> Tensor:
        """int64 (N,): the likeliest label of each clip. Means nothing for clips that nobody labelled."""
        return self.targets.argmax(dim=1)

    @property
    def is_labelled(self) -> Tensor:
        """bool (N,)"""
        return self.targets.sum(dim=1) > 0

    def part(self, rows: Tensor | list[int]) -> Self:
        """Some of the clips, in the given order; one that is named twice is there twice. The frames are shared, not copied."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        return replace(
            self,
            first=self.first[index],
            count=self.count[index],
            targets=self.targets[index],
            subjects=tuple(self.subjects[row] for row in index.tolist()),
            sources=tuple(self.sources[row] for row in index.tolist()),
            licences=tuple(self.licences[row] for row in index.tolist()),
        )

    def labelled(self) -> Self:
        """The clips that have a label. Raises DataUnusable when none has."""
        return self.part(torch.nonzero(self.is_labelled).flatten())

    def with_targets(self, targets: Tensor) -> Self:
        """The same clips under other labels, (N, 7)."""
        return replace(self, targets=targets.float())

    def resized(self, size: int) -> Self:
        """The same clips with smaller crops, as the worker would have cut them: resized with anti-aliasing."""
        if size == self.size:
            return self
        if size > self.size:
            raise DataUnusable(f"{self.name} was cut at {self.size} pixels, and {size} are asked for: harvest it anew")
        groups = [shrunk(group, size) for group in self.frames.split(FRAMES_AT_ONCE)]
        return replace(self, frames=torch.cat(groups))

    def frames_of(self, clip: int) -> Tensor:
        """uint8 (T, 3, S, S)"""
        first = int(self.first[clip])
        return self.frames[first : first + int(self.count[clip])]


def joined(parts: list[Clips]) -> Clips:
    """All clips of all parts as one. Frames that parts share are there once."""
    offsets: dict[int, int] = {}
    frames: list[Tensor] = []
    for part in parts:
        if id(part.frames) not in offsets:
            offsets[id(part.frames)] = sum(len(each) for each in frames)
            frames.append(part.frames)
    if len({part.size for part in parts}) > 1:
        raise DataUnusable("crops of several sizes: " + ", ".join(f"{part.name} has {part.size} pixels" for part in parts))
    return Clips(
        name="+".join(dict.fromkeys(part.name for part in parts)),
        licence="; ".join(dict.fromkeys(part.licence for part in parts)),
        sha256=hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest(),
        frames=frames[0] if len(frames) == 1 else torch.cat(frames),
        first=torch.cat([part.first + offsets[id(part.frames)] for part in parts]),
        count=torch.cat([part.count for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        subjects=tuple(subject for part in parts for subject in part.subjects),
        sources=tuple(source for part in parts for source in part.sources),
        licences=tuple(licence for part in parts for licence in part.licences),
    )


def shrunk(frames: Tensor, size: int) -> Tensor:
    smaller = nn.functional.interpolate(frames.float(), size=(size, size), mode="bilinear", antialias=True)
    return smaller.round().clamp(0, 255).to(torch.uint8)


def read_clips(folder: Path) -> Clips:
    """Read the samples of a crop store that may be trained on; those without consent are never read.

    Raises DataUnusable when the store is not there, its files are not the ones that were harvested, or this is not the
    cropping code that cut them; LabelUnknown for a label that is not ours.
    """
    store = read_store(folder)
    samples = [sample for sample in read_labels(folder / SAMPLES) if sample.consent]
    if not samples:
        raise DataUnusable(f"{folder.name} has no sample that may be trained on")
    with storage_errors():
        frames = np.load(folder / FRAMES, mmap_mode="r")
    rows = np.concatenate([np.arange(sample.first, sample.first + sample.count) for sample in samples])
    if rows.max() >= len(frames):
        raise DataUnusable(f"{folder.name}/{SAMPLES} names frames that {FRAMES} does not have")
    counts = torch.tensor([sample.count for sample in samples])
    return Clips(
        name=store.name,
        licence=store.licence,
        sha256=store_digest(store),
        frames=luma(frames, rows),
        first=counts.cumsum(0) - counts,
        count=counts,
        targets=torch.stack([target(sample) for sample in samples]),
        subjects=tuple(sample.subject for sample in samples),
        sources=tuple(sample.source for sample in samples),
        licences=tuple(sample.licence or store.licence for sample in samples),
    )


def read_store(folder: Path) -> Store:
    """`store.json`, with every file checked against it. Raises DataUnusable."""
    try:
        store = Store.model_validate_json((folder / STORE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataUnusable(f"there is no crop store in {folder.name}") from None
    except ValidationError as error:
        raise DataUnusable(f"{folder.name}/{STORE}: {error}") from error
    if store.preprocess != PREPROCESS_VERSION:
        raise DataUnusable(f"{folder.name} was cropped by {store.preprocess}, this is {PREPROCESS_VERSION}")
    for name, digest in store.sha256.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise DataUnusable(f"{folder.name}/{name} is not the file that was harvested")
    return store


def read_labels(path: Path) -> list[Sample]:
    """samples.jsonl. Raises LabelUnknown and DataUnusable."""
    try:
        return read_samples(path)
    except ValidationError as error:
        first = error.errors()[0]
        kind = LabelUnknown if first["loc"][:1] == ("label",) else DataUnusable
        raise kind(f"{path.parent.name}/{path.name}: {first['input']!r}: {first['msg']}") from error


def store_digest(store: Store) -> str:
    """One name for everything that a store holds."""
    return hashlib.sha256("".join(sorted(store.sha256.values())).encode()).hexdigest()


def target(sample: Sample) -> Tensor:
    """float32 (7,): what people say that the sample expresses."""
    if sample.label is None:
        return torch.zeros(len(LABELS))
    return nn.functional.one_hot(torch.tensor(LABELS.index(sample.label)), len(LABELS)).float()


def luma(frames: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> Tensor:
    """Rows of uint8 (F, 9, S, S) as uint8 (len(rows), 3, S, S): the ITU-R BT.601 luma of each region.

    Where most pictures are grey, colour tells which set a picture came from, and so what its label is likely to be. A
    network that may see it learns that, and judges every coloured video by it.
    """
    grey = torch.empty(len(rows), len(REGIONS), *frames.shape[2:], dtype=torch.uint8)
    weights = torch.tensor(LUMA).reshape(1, 1, 3, 1, 1)
    for start in range(0, len(rows), FRAMES_AT_ONCE):
        colours = torch.from_numpy(frames[rows[start : start + FRAMES_AT_ONCE]]).unflatten(1, (len(REGIONS), 3))
        grey[start : start + FRAMES_AT_ONCE] = (colours * weights).sum(dim=2).round().to(torch.uint8)
    return grey


# --- splits ----------------------------------------------------------------------------------------------------------


def split_by_subject(clips: Clips, *, held_out: float) -> tuple[Clips, Clips]:
    """Split into (kept, held out) so that no subject is on both sides; a subject always falls on the same side.

    Raises DataUnusable when a side has nothing.
    """
    threshold = int(held_out * 2**32)
    out = [int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big") < threshold for subject in clips.subjects]
    kept_rows = [row for row, is_out in enumerate(out) if not is_out]
    out_rows = [row for row, is_out in enumerate(out) if is_out]
    split = replace(clips, held_out=held_out)
    return split.part(kept_rows), split.part(out_rows)


def check_apart(learnt: list[Clips], measured: list[Clips]) -> None:
    """Raise SubjectsLeak when a subject of one store is on both sides. A subject's name means something within its store only,
    which is known by its name and by its digest.
    """
    known = {(store, subject) for clips in learnt for subject in set(clips.subjects) for store in (clips.name, clips.sha256)}
    for clips in measured:
        both = sorted({subject for subject in clips.subjects if {(clips.name, subject), (clips.sha256, subject)} & known})
        if both:
            raise SubjectsLeak(f"{len(both)} subjects of {clips.name} are learnt from and measured on, such as {both[0]}")


def check_classes(parts: list[Clips]) -> None:
    """Raise ClassMissing unless the labelled sets hold every label between them."""
    counts = torch.stack([torch.bincount(clips.labels[clips.is_labelled], minlength=len(LABELS)) for clips in parts]).sum(dim=0)
    missing = [label for label, count in zip(LABELS, counts.tolist(), strict=True) if count == 0]
    if missing:
        raise ClassMissing(f"{', '.join(missing)} in {', '.join(clips.name for clips in parts)}")

"""Clips in, a crop store out: streamed to the disk, so that memory does not grow with the data set, and there whole or not at all."""

import fcntl
import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import numpy as np

from services.preprocess.arrays import Pixels
from services.preprocess.harvest.material import Clip, Tally
from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, sample_line
from shared.errors import DataUnusable, StoreExists
from shared.expressions import REGIONS
from shared.jobs import Enhance
from shared.releases import PREPROCESS_VERSION, file_sha256
from shared.videos import fsync_folder, storage_errors

PARTIAL: Final = "partial"


def write_store(
    out: Path,
    clips: Iterable[Clip],
    *,
    name: str,
    licence: str,
    size: int,
    consent: bool,
    enhance: Enhance,
    tally: Tally,
    most_unreadable: float,
) -> Store:
    """Write all clips into a store at `out`. `tally` counts what they are cut from, while they are.

    Raises StoreExists; DataUnusable when there are no clips; PictureUnreadable when a larger share than `most_unreadable` of the
    material could not be read; InsufficientStorage and StorageError; and what cutting raises. Then there is nothing at `out`.
    """
    with storage_errors(), new_folder(out) as folder:
        frames, samples = write_clips(folder, clips, size=size, consent=consent)
        tally.check(most_unreadable=most_unreadable)
        if not samples:
            raise DataUnusable(f"nothing to harvest; left out: {dict(+tally.dropped) or 'nothing'}")
        store = Store(
            name=name,
            licence=licence,
            preprocess=PREPROCESS_VERSION,
            size=size,
            enhance=enhance,
            frames=frames,
            samples=samples,
            sha256={file: file_sha256(folder / file) for file in (FRAMES, SAMPLES)},
            dropped=dict(+tally.dropped),
        )
        (folder / STORE).write_text(store.model_dump_json(indent=1))
    return store


def write_clips(folder: Path, clips: Iterable[Clip], *, size: int, consent: bool) -> tuple[int, int]:
    """Write frames.npy and samples.jsonl; returns how many of each."""
    samples = 0
    with FrameFile(folder / FRAMES, size=size) as frames, (folder / SAMPLES).open("w", encoding="utf-8") as lines:
        for clip in clips:
            sample = Sample(
                first=frames.count,
                count=len(clip.frames),
                label=clip.label,
                subject=clip.subject,
                source=clip.source,
                aligned=clip.aligned,
                consent=consent,
            )
            frames.append(clip.frames)
            lines.write(sample_line(sample))
            samples += 1
    return frames.count, samples


class FrameFile:
    """frames.npy, whose length is known only at the end: NumPy leaves room in the header for the first axis to grow."""

    def __init__(self, path: Path, *, size: int) -> None:
        self._shape = 3 * len(REGIONS), size, size
        self._file = path.open("wb")
        self.count = 0

    def __enter__(self) -> Self:
        self._write_header()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._write_header()

    def append(self, frames: Pixels) -> None:
        """uint8 (T, 9, S, S)"""
        if frames.shape[1:] != self._shape:
            raise ValueError(f"frames of this file are {self._shape}, not {frames.shape[1:]}")
        self._file.write(np.ascontiguousarray(frames).data)
        self.count += len(frames)

    def _write_header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": (self.count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder aside, which is made durable and renamed to `out` after the body, and removed when the body fails. Raises StoreExists."""
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out)
    aside = out.with_name(f".{out.name}.{uuid4().hex}.{PARTIAL}")
    aside.mkdir()
    try:
        with locked(aside):
            yield aside
            make_durable(aside)
            refuse_existing(out)  # another harvest may have been faster
            aside.rename(out)
            fsync_folder(out.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def refuse_existing(out: Path) -> None:
    if out.exists():
        raise StoreExists(str(out))


def sweep(out: Path) -> None:
    """Remove what killed harvests of this store left behind; a living one holds the lock on its folder."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.{PARTIAL}"):
        with suppress(BlockingIOError, FileNotFoundError), locked(left):
            shutil.rmtree(left)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The kernel's lock on a folder, which goes with the process. Raises BlockingIOError where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def make_durable(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)

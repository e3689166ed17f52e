"""Dark and bright faces of different people, from parquet files with columns `image` (encoded bytes) and `subject`."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import torch
from PIL import Image
from torch import Tensor, nn

from shared.errors import DataUnusable, PictureUnreadable
from shared.pictures import rgb_picture
from shared.pixels import LUMA
from shared.releases import DataSet, file_sha256
from training.enlighten.darkness import Darkness, darkened
from training.enlighten.settings import Settings

SIDE_PX = 128
"""Of a picture in memory."""
ROWS_AT_A_TIME = 256
COLUMNS = ("image", "subject")
SMALLEST_CROP = 0.6
"""Side of what is cut from a picture, as a share of its own."""

DARK, BRIGHT, HELD_OUT = "dark", "bright", "held out"


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Pictures for each part that a person can have."""

    dark: Tensor
    """uint8 (N, 3, SIDE_PX, SIDE_PX): dark by nature, or still to be darkened."""
    is_dark: Tensor
    """bool (N,): by nature."""
    bright: Tensor
    """uint8 (M, 3, SIDE_PX, SIDE_PX), in good light."""
    held_out: Tensor
    """uint8 (K, 3, SIDE_PX, SIDE_PX), in good light, of people in none of the above."""
    sources: tuple[DataSet, ...]


def read_faces(files: Sequence[Path], *, licence: str, settings: Settings) -> Faces:
    """Raises DataUnusable for a file that cannot be read or a part without a picture, and PictureUnreadable."""
    rows = [row for file in files for row in read_rows(file)]
    if not rows:
        raise DataUnusable(f"no picture in {', '.join(file.name for file in files)}")
    pictures = torch.stack([picture for picture, _, _ in rows])
    light = torch.cat([mean_luma(group) for group in pictures.split(ROWS_AT_A_TIME)])
    parts = [part_of(subject, held_out=settings.held_out) for _, subject, _ in rows]
    is_lit, is_dark = light >= settings.bright_from, light <= settings.dark_to
    chosen = {
        DARK: is_part(parts, DARK) & (is_lit | is_dark),
        BRIGHT: is_part(parts, BRIGHT) & is_lit,
        HELD_OUT: is_part(parts, HELD_OUT) & is_lit,
    }
    if empty := [part for part, which in chosen.items() if not which.any()]:
        raise DataUnusable(f"no picture in {', '.join(file.name for file in files)} is {', or '.join(empty)}")
    return Faces(
        dark=pictures[chosen[DARK]],
        is_dark=is_dark[chosen[DARK]],
        bright=pictures[chosen[BRIGHT]],
        held_out=pictures[chosen[HELD_OUT]],
        sources=tuple(
            DataSet(name=file.stem, use=part, samples=samples, licence=licence, sha256=file_sha256(file), held_out=settings.held_out)
            for file in files
            for part, which in chosen.items()
            if (samples := sum(own == file and bool(taken) for (_, _, own), taken in zip(rows, which, strict=True)))
        ),
    )


def read_rows(file: Path) -> Iterator[tuple[Tensor, str, Path]]:
    """Each picture as uint8 (3, SIDE_PX, SIDE_PX), who it shows, and the file itself; a subject without a name is one of its own."""
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            if missing := set(COLUMNS) - set(table.schema_arrow.names):
                raise DataUnusable(f"{file.name} has no column {', '.join(sorted(missing))}")
            for batch in table.iter_batches(batch_size=ROWS_AT_A_TIME, columns=list(COLUMNS)):
                for row in batch.to_pylist():
                    yield square(row["image"], where=f"{file.name}#{number}"), row["subject"] or f"{file.name}#{number}", file
                    number += 1
    except FileNotFoundError:
        raise DataUnusable(f"{file.name} is not there") from None
    except pyarrow.ArrowException as error:
        raise DataUnusable(f"{file.name}: {error}") from error


def square(content: bytes, *, where: str) -> Tensor:
    """An encoded picture as uint8 (3, SIDE_PX, SIDE_PX)."""
    try:
        picture = rgb_picture(content)
    except PictureUnreadable as error:
        raise PictureUnreadable(f"{where}: {error.detail}") from error
    smaller = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2)
    return torch.from_numpy(np.array(smaller)).permute(2, 0, 1).contiguous()


def mean_luma(pictures: Tensor) -> Tensor:
    """(N,) from 0 to 1."""
    return (pictures.float() * torch.tensor(LUMA).reshape(1, 3, 1, 1)).sum(dim=1).mean(dim=(1, 2)) / 255


def part_of(subject: str, *, held_out: float) -> str:
    """A person's part. Who is held out of a crop store is held out here: the same bytes of the same digest say so."""
    digest = hashlib.sha256(subject.encode()).digest()
    if int.from_bytes(digest[:4], "big") < int(held_out * 2**32):
        return HELD_OUT
    return DARK if digest[4] % 2 else BRIGHT


def is_part(parts: Sequence[str], part: str) -> Tensor:
    return torch.tensor([each == part for each in parts])


# --- batches ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Draws what is learnt from; a draw depends on the seed and the step alone."""

    faces: Faces
    settings: Settings

    def drawn(self, step: int) -> tuple[Tensor, Tensor]:
        """Dark pictures and bright ones, which have nothing to do with each other: float32 (B, 3, patch, patch) from -1 to 1."""
        draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        return as_input(self._dark(draw)), as_input(self._bright(draw))

    def _dark(self, draw: torch.Generator) -> Tensor:
        rows = self._rows(len(self.faces.dark), draw)
        pictures = self._pictures(self.faces.dark, rows, draw)
        made = darkened(pictures, Darkness.drawn(len(rows), self.settings.patch, self.settings.darkening, draw), draw)
        return torch.where(self.faces.is_dark[rows].all(dim=1)[:, None, None, None], pictures, made)

    def _bright(self, draw: torch.Generator) -> Tensor:
        return self._pictures(self.faces.bright, self._rows(len(self.faces.bright), draw), draw)

    def _rows(self, pictures: int, draw: torch.Generator) -> Tensor:
        """int64 (B, 4): four pictures that become a mosaic, or four times the same one."""
        rows = torch.randint(pictures, (self.settings.batch, 4), generator=draw)
        is_mosaic = torch.rand(self.settings.batch, 1, generator=draw) < self.settings.mosaic
        return torch.where(is_mosaic, rows, rows[:, :1])

    def _pictures(self, faces: Tensor, rows: Tensor, draw: torch.Generator) -> Tensor:
        """uint8 (B, 3, patch, patch)"""
        size = self.settings.patch
        pictures = [part(faces[four[0]], size, draw) if len(four.unique()) == 1 else mosaic(faces[four], size) for four in rows]
        return torch.stack(pictures)


def part(picture: Tensor, size: int, draw: torch.Generator) -> Tensor:
    """A random square of uint8 (3, H, H), turned over half of the time, as uint8 (3, size, size)."""
    whole = picture.shape[-1]
    side = int(torch.randint(int(whole * SMALLEST_CROP), whole + 1, (), generator=draw))
    top, left = torch.randint(whole - side + 1, (2,), generator=draw).tolist()
    cut = picture[:, top : top + side, left : left + side]
    return resized((cut.flip(2) if torch.rand((), generator=draw) < 0.5 else cut)[None], size)[0]


def mosaic(four: Tensor, size: int) -> Tensor:
    """uint8 (4, 3, H, H) side by side as uint8 (3, size, size)."""
    first, second, third, fourth = resized(four, size // 2)
    return torch.cat([torch.cat([first, second], dim=2), torch.cat([third, fourth], dim=2)], dim=1)


def resized(pictures: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, H, H) as uint8 (B, 3, size, size), anti-aliased."""
    smaller = nn.functional.interpolate(pictures.float(), size=(size, size), mode="bilinear", antialias=True)
    return smaller.round().clamp(0, 255).to(torch.uint8)


def as_input(pictures: Tensor) -> Tensor:
    """Bytes as the networks want them: from -1 to 1, colours last in memory, which takes a fifth less time on a CPU."""
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

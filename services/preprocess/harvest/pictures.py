"""Pictures that are already faces, in FER2013's two shapes: a folder per class, or its CSV of pixels."""

import csv
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from services.preprocess.arrays import Pixels
from services.preprocess.harvest.decoding import picture_file
from services.preprocess.harvest.folders import class_folders, files, named
from services.preprocess.harvest.material import Picture
from shared.errors import DataUnusable, LabelUnknown, PictureUnreadable
from shared.results import Label

SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

EMOTIONS: Final[dict[str, Label]] = {"0": "angry", "1": "disgust", "2": "fear", "3": "happy", "4": "sad", "5": "surprise", "6": "neutral"}
"""FER2013's codes, which are not in our order."""

COLUMNS: Final = ("emotion", "pixels")
USAGE: Final = "Usage"


def read_class_folders(source: Path) -> Iterator[Picture]:
    """Every picture below a folder whose folders are classes. Nobody knows who they show, so each is a subject of its own.

    Raises DataUnusable, and LabelUnknown before the first picture.
    """
    for label, folder in class_folders(source):
        for path in files(folder, SUFFIXES):
            where = named(source, path)
            yield Picture(read=partial(picture_file, path), label=label, subject=where, source=where)


def read_csv(source: Path, *, usage: str | None = None) -> Iterator[Picture]:
    """The rows of a CSV with columns emotion, pixels and Usage; of one usage only where asked for, such as `Training`.

    Raises DataUnusable when it is not such a file, and LabelUnknown.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            columns = {*COLUMNS, USAGE} if usage is not None else {*COLUMNS}
            if missing := columns - set(table.fieldnames or ()):
                raise DataUnusable(f"{source} has no column {', '.join(sorted(missing))}")
            for number, row in enumerate(table):
                if usage is None or row[USAGE] == usage:
                    yield csv_picture(row, where=f"{source.name}#{number}")
    except FileNotFoundError:
        raise DataUnusable(f"{source} is not there") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataUnusable(f"{source}: {error}") from error


def csv_picture(row: dict[str, str | None], *, where: str) -> Picture:
    emotion = (row["emotion"] or "").strip()
    if emotion not in EMOTIONS:
        raise LabelUnknown(f"emotion {emotion!r} at {where}; FER2013 has {', '.join(EMOTIONS)}")
    return Picture(read=partial(from_numbers, row["pixels"] or ""), label=EMOTIONS[emotion], subject=where, source=where)


def from_numbers(pixels: str) -> Pixels:
    """Grey values of a square picture, row by row, as uint8 RGB (H, W, 3)."""
    try:
        grey = np.array(pixels.split(), dtype=np.uint8)  # refuses what is not a number from 0 to 255
    except (ValueError, OverflowError) as error:
        raise PictureUnreadable(str(error)) from error
    side = math.isqrt(grey.size)
    if not side or side * side != grey.size:
        raise PictureUnreadable(f"{grey.size} pixels are not a square")
    return np.repeat(grey.reshape(side, side, 1), 3, axis=2)

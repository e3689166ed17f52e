"""Face pictures in a parquet file: columns `image` (encoded bytes), `label` (a word, or null) and `subject` (may be empty).

Needs pyarrow, which comes with the training group.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow
import pyarrow.parquet as parquet

from services.preprocess.arrays import Pixels
from services.preprocess.harvest.decoding import picture
from services.preprocess.harvest.labels import label_of
from services.preprocess.harvest.material import Picture
from shared.errors import DataUnusable, PictureUnreadable

COLUMNS: Final = ("image", "label", "subject")
ROWS_AT_A_TIME: Final = 256


def read_parquet(source: Path) -> Iterator[Picture]:
    """The rows of the file, in order. Raises DataUnusable when it is no parquet file or lacks a column, and LabelUnknown."""
    for number, row in enumerate(rows(source)):
        where = f"{source.name}#{number}"
        yield Picture(
            read=partial(cell, row["image"]),
            label=None if row["label"] is None else label_of(str(row["label"]), where=where),
            subject=row["subject"] or where,
            source=where,
        )


def rows(source: Path) -> Iterator[dict[str, Any]]:
    try:
        with parquet.ParquetFile(source) as file:
            if missing := set(COLUMNS) - set(file.schema_arrow.names):
                raise DataUnusable(f"{source} has no column {', '.join(sorted(missing))}")
            for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=list(COLUMNS)):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise DataUnusable(f"{source} is not there") from None
    except pyarrow.ArrowException as error:
        raise DataUnusable(f"{source}: {error}") from error


def cell(content: object) -> Pixels:
    if not isinstance(content, bytes):
        raise PictureUnreadable(f"the cell holds {type(content).__name__}, not bytes")
    return picture(content)

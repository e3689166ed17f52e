"""Cut training crops with serving's own code: labelled face pictures in, a crop store out.

    python -m services.preprocess.harvest faces.parquet --name fer2013-train --licence "..." --size 64 --out crops/fer2013-train

A parquet file has columns `image` (encoded bytes), `label` (one of ours, or null) and `subject` (may be empty). Needs the
training group beside the preprocess group.
"""

import argparse
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

from services.preprocess.landmarks import FacePictures, mean_landmarks
from services.preprocess.regions import Pixels, face_tensor
from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, write_samples
from shared.expressions import REGIONS
from shared.releases import PREPROCESS_VERSION, file_sha256

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One labelled face, decoded."""

    rgb_hwc: Pixels
    label: str | None
    subject: str
    source: str


def harvest(source: Path, *, name: str, licence: str, size: int, out: Path) -> Store:
    """Crop every picture of a parquet file into a store at `out`; written aside and renamed.

    Raises FileExistsError when there is something at `out`.
    """
    if out.exists():
        raise FileExistsError(out)
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    rows = parquet.read_metadata(source).num_rows
    frames = np.lib.format.open_memmap(aside / FRAMES, mode="w+", dtype=np.uint8, shape=(rows, 3 * len(REGIONS), size, size))
    samples: list[Sample] = []
    finder = FacePictures()
    for batch in read_parquet(source):
        for picture, landmarks in zip(batch, finder.landmarks([picture.rgb_hwc for picture in batch]), strict=True):
            aligned = landmarks is not None
            points = landmarks if landmarks is not None else mean_landmarks(picture.rgb_hwc)
            frames[len(samples)] = face_tensor(picture.rgb_hwc, points, size=size)
            samples.append(Sample(first=len(samples), label=picture.label, subject=picture.subject, source=picture.source, aligned=aligned))
    frames.flush()
    write_samples(aside / SAMPLES, samples)
    store = Store(
        name=name,
        licence=licence,
        preprocess=PREPROCESS_VERSION,
        size=size,
        frames=rows,
        samples=len(samples),
        sha256={file: file_sha256(aside / file) for file in (FRAMES, SAMPLES)},
    )
    (aside / STORE).write_text(store.model_dump_json(indent=1))
    aside.rename(out)
    return store


def read_parquet(source: Path) -> Iterator[list[Picture]]:
    """Decode a parquet file batch by batch."""
    row = 0
    for batch in parquet.ParquetFile(source).iter_batches(batch_size=BATCH):
        pictures = []
        for values in batch.to_pylist():
            with Image.open(io.BytesIO(values["image"])) as image:
                rgb = np.asarray(image.convert("RGB"))
            where = f"{source.name}#{row}"
            pictures.append(Picture(rgb_hwc=rgb, label=values["label"], subject=values["subject"] or where, source=where))
            row += 1
        yield pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--size", type=int, default=64, help="S, side of the crops in pixels")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    store = harvest(args.source, name=args.name, licence=args.licence, size=args.size, out=args.out)
    print(f"{store.samples} samples of {store.size} px in {args.out}")  # noqa: T201


if __name__ == "__main__":
    main()

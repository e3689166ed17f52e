"""Pictures of people from whom neither a release nor the generator that brightens has learnt, with what they express."""

from dataclasses import dataclass
from pathlib import Path

from services.preprocess.faces.regions import Pixels
from services.preprocess.harvest.parquet import read_parquet
from shared.errors import DataUnusable
from shared.releases import Release
from training.enlighten.data import HELD_OUT, part_of
from training.enlighten.settings import Settings
from training.gate import LESSONS


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """A picture of a face, and what people say that it expresses."""

    rgb_hwc: Pixels
    label: str
    subject: str


def held_out(file: Path, *, release: Release) -> list[Labelled]:
    """Of a parquet file with columns image, label and subject. Raises DataUnusable when nobody in it was held out."""
    share = min(Settings().held_out, *(data.held_out for data in release.data if data.use in LESSONS and data.name == file.stem), 1.0)
    people = [
        Labelled(rgb_hwc=picture.read(), label=picture.label, subject=picture.subject)
        for picture in read_parquet(file)
        if picture.label is not None and part_of(picture.subject, held_out=share) == HELD_OUT
    ]
    if not people:
        raise DataUnusable(f"{file.name} has no labelled picture of anybody whom release {release.version} has not learnt from")
    return people

"""Every kind of data set that can be harvested, by name, and the harvest of one from its start to its end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from services.preprocess.faces.search import FaceDetector
from services.preprocess.harvest.ckplus import read_ckplus
from services.preprocess.harvest.cut import FootageCutter, cut_pictures
from services.preprocess.harvest.material import Clip, Tally
from services.preprocess.harvest.pictures import read_class_folders, read_csv
from services.preprocess.harvest.store import write_store
from services.preprocess.harvest.uploads import read_uploads
from services.preprocess.harvest.videos import read_afew, read_videos
from services.preprocess.light.lowlight import Brightening, Lowlight
from shared.crops import Store
from shared.jobs import Contract, Enhance, Options

MOST_UNREADABLE: Final = 0.05


class Choices(Contract):
    """What a person may choose about a harvest. Each adapter knows some of them."""

    size: Annotated[int, Field(ge=32, le=512, multiple_of=8)] = 64
    """S, side of the crops in pixels"""
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    """most frames of a clip, spread evenly over the time that a face is seen"""
    sample_fps: Annotated[float, Field(gt=0, le=60)] = 8.0
    """frames per second of media time that are looked at"""
    longest_s: Annotated[float, Field(gt=0)] = 10.0
    """a face that is seen for longer becomes several clips"""
    enhance: Enhance = Enhance.AUTO
    """what is brightened: pictures and frames that are too dark (auto), all (always) or none (never)"""
    usage: str | None = None
    """of a CSV: only rows of this usage, such as Training, PublicTest or PrivateTest"""
    neutral_onset: bool = False
    """take the first frame of each sequence as a neutral sample, too"""
    no_consent: bool = False
    """keep the samples out of training: they may be looked at, not learnt from"""
    most_unreadable: Annotated[float, Field(ge=0, le=1)] | None = None
    """share of the material that may be unreadable: 0.05, but 1 of uploads, since a client may send anything"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where faces are found: cpu or cuda"""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One kind of data set."""

    clips: Callable[[Path, Choices, Tally], Iterator[Clip]]
    choices: tuple[str, ...]
    """The Choices that it knows, beside the size."""
    most_unreadable: float = MOST_UNREADABLE


def harvest(adapter: str, source: Path, *, name: str, licence: str, out: Path, choices: Choices) -> Store:
    """Cut everything that `source` holds into a crop store at `out`.

    Raises StoreExists, DataUnusable (nothing there, or something else than the adapter reads), LabelUnknown, PictureUnreadable
    (too much of it), InsufficientStorage and StorageError. Then there is no store.
    """
    kind, tally = ADAPTERS[adapter], Tally()
    return write_store(
        out,
        kind.clips(source, choices, tally),
        name=name,
        licence=licence,
        size=choices.size,
        consent=not choices.no_consent,
        enhance=choices.enhance,
        tally=tally,
        most_unreadable=kind.most_unreadable if choices.most_unreadable is None else choices.most_unreadable,
    )


def parquet(source: Path, choices: Choices, tally: Tally) -> Iterator[Clip]:
    """face pictures in a parquet file with columns image, label and subject"""
    from services.preprocess.harvest.parquet import read_parquet  # needs pyarrow, which a worker's image does without

    return cut_pictures(read_parquet(source), size=choices.size, brightening=brightening(choices), tally=tally)


def pictures(source: Path, choices: Choices, tally: Tally) -> Iterator[Clip]:
    """face pictures in a folder per class, or a CSV with columns emotion, pixels and Usage"""
    is_csv = source.suffix.lower() == ".csv"
    listed = read_csv(source, usage=choices.usage) if is_csv else read_class_folders(source)
    return cut_pictures(listed, size=choices.size, brightening=brightening(choices), tally=tally)


def afew(source: Path, choices: Choices, tally: Tally) -> Iterator[Clip]:
    """labelled videos in a folder per class, such as Train_AFEW"""
    return cutter(choices, tally).main_faces(read_afew(source, sample_fps=choices.sample_fps))


def ckplus(source: Path, choices: Choices, tally: Tally) -> Iterator[Clip]:
    """CK+: the folder that holds cohn-kanade-images and Emotion"""
    return cutter(choices, tally).main_faces(read_ckplus(source, neutral_onset=choices.neutral_onset, tally=tally))


def videos(source: Path, choices: Choices, tally: Tally) -> Iterator[Clip]:
    """unlabelled videos in a folder and below, such as BoLD's"""
    footage = read_videos(source, sample_fps=choices.sample_fps)
    return cutter(choices, tally).all_faces(footage, longest_ms=round(choices.longest_s * 1000))


def uploads(source: Path, choices: Choices, tally: Tally) -> Iterator[Clip]:
    """Mien's own data folder: uploads that their owners let be learnt from, and no others"""
    footage = read_uploads(source, sample_fps=choices.sample_fps, tally=tally)
    return cutter(choices, tally).all_faces(footage, longest_ms=round(choices.longest_s * 1000))


def cutter(choices: Choices, tally: Tally) -> FootageCutter:
    return FootageCutter(
        detector=FaceDetector(device=choices.device),
        lowlight=Lowlight(),
        options=Options(enhance=choices.enhance),
        size=choices.size,
        most=choices.frames,
        tally=tally,
    )


def brightening(choices: Choices) -> Brightening:
    return Lowlight().brightening(choices.enhance)


ADAPTERS: Final[dict[str, Adapter]] = {
    "parquet": Adapter(clips=parquet, choices=("enhance", "no_consent", "most_unreadable")),
    "pictures": Adapter(clips=pictures, choices=("enhance", "usage", "no_consent", "most_unreadable")),
    "afew": Adapter(clips=afew, choices=("enhance", "frames", "sample_fps", "device", "no_consent", "most_unreadable")),
    "ckplus": Adapter(clips=ckplus, choices=("enhance", "frames", "neutral_onset", "device", "no_consent", "most_unreadable")),
    "videos": Adapter(clips=videos, choices=("enhance", "frames", "sample_fps", "longest_s", "device", "no_consent", "most_unreadable")),
    "uploads": Adapter(
        clips=uploads, choices=("enhance", "frames", "sample_fps", "longest_s", "device", "most_unreadable"), most_unreadable=1.0
    ),
}

"""A crop store: the face tensors that training reads. The worker's `harvest` writes it with serving's own cropping code.

A store is written aside and renamed, and never changed: what a network learnt from can be named by a digest for ever.

<store>/
  store.json       Store: what this is, where it came from, and the digests of the other two files
  frames.npy       uint8 (N, 9, S, S), every face frame of every sample, in the order of samples.jsonl
  samples.jsonl    one Sample a line; a sample is a clip of `count` frames starting at row `first`, an image a clip of one
"""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from shared.jobs import Contract, Enhance
from shared.results import Label

FRAMES: Final = "frames.npy"
SAMPLES: Final = "samples.jsonl"
STORE: Final = "store.json"


class Sample(Contract):
    """One clip of one face, with where it came from and what may be done with it."""

    first: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1)] = 1
    label: Label | None = None
    """Null when unlabelled."""
    subject: str
    """Who it shows; splits never share a subject. Unknown subjects are given a name of their own."""
    source: str
    """Where it came from: file and row, or the analysis it was harvested from."""
    licence: str = ""
    """Terms it may be used under; empty where the whole store has one licence, which `store.json` names."""
    aligned: bool
    """Whether landmarks were found; otherwise the picture was taken as an already upright face."""
    consent: bool = True
    """Whether it may be trained on. Without consent a sample is never read by training."""


class Store(Contract):
    """`store.json`."""

    name: str
    licence: str
    preprocess: str
    """Version of the cropping code; a network is trained and served with one."""
    enhance: Enhance = Enhance.NEVER
    """Which pictures were brightened before they were cropped."""
    size: int
    """S, side of the crops in pixels."""
    frames: int
    samples: int
    sha256: dict[str, str]
    """Of frames.npy and samples.jsonl."""
    dropped: dict[str, int] = Field(default={})
    """What the source held that is not here, counted by reason, such as `no_face` or `unreadable`."""


def sample_line(sample: Sample) -> str:
    return sample.model_dump_json() + "\n"


def read_samples(path: Path) -> list[Sample]:
    with path.open("rb") as lines:  # bytes: as text, a line would also end at characters that a file's name may hold
        return [Sample.model_validate_json(line) for line in lines]

"""A release: the two graphs of one trained network, in an immutable folder that Triton serves.

    models/                            the Triton model repository
      mien_000001/                     the release: written aside, fsynced, renamed
        release.json                   this contract; names the sha256 of every other file
        weights.safetensors            what the graphs were built from
        frames/config.pbtxt  frames/1/model.pt
        clip/config.pbtxt    clip/1/model.pt
      mien_000001_frames -> mien_000001/frames      what Triton sees: one model name per graph and release,
      mien_000001_clip   -> mien_000001/clip        so nothing live is ever reloaded

Tensors on the wire (S, feature_size from release.json; the `__N` suffix is libtorch's positional naming):

    frames   faces__0 uint8 (B, 9, S, S)     -> features__0 fp32 (B, F), region_weights__1 fp32 (B, 3),
                                                spatial_maps__2 fp32 (B, 3, S/8, S/8)
    clip     features__0 fp32 (B, T, F), mask__1 fp32 (B, T)   -> logits__0 fp32 (B, 7), frame_weights__1 fp32 (B, T)
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, JsonValue, ValidationError

from shared.errors import ModelContractMismatch, ModelDigestMismatch, ModelVersionUnavailable
from shared.expressions import LABELS
from shared.jobs import Contract

FRAMES_INPUT: Final = "faces__0"
FRAMES_OUTPUTS: Final = ("features__0", "region_weights__1", "spatial_maps__2")
CLIP_INPUTS: Final = ("features__0", "mask__1")
CLIP_OUTPUTS: Final = ("logits__0", "frame_weights__1")
GRAPHS: Final = ("frames", "clip")
WEIGHTS: Final = "weights.safetensors"

PREPROCESS_VERSION: Final = "p1"
"""Changes whenever the same video would give another face tensor: a release serves only with the crops it was trained on."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Sampling(Contract):
    """How a track becomes clips."""

    window_ms: Annotated[int, Field(gt=0)] = 500
    """Length of one window of the timeline."""
    step_ms: Annotated[int, Field(gt=0)] = 500
    """From the start of one window to the start of the next."""


class DataSet(Contract):
    """One source a release was trained or measured on."""

    name: str
    use: str
    """`train`, `validation` or `unlabelled`."""
    samples: int
    licence: str
    sha256: Sha256
    """Of the crop store that was read."""


class Release(Contract):
    """`release.json`."""

    version: Annotated[int, Field(ge=1, le=999_999)]
    """Only ever grows."""
    parent: int | None = None
    """The release whose network was the teacher."""
    labels: tuple[str, ...] = LABELS
    size: Annotated[int, Field(ge=32, multiple_of=8)]
    """S: side of the square face, eyes and mouth crops, in pixels."""
    width: Annotated[float, Field(gt=0, le=2)]
    """Channel multiplier; 1.0 is the paper's."""
    feature_size: Annotated[int, Field(gt=0)]
    """F: length of one frame's feature."""
    preprocess: str = PREPROCESS_VERSION
    sampling: Sampling = Sampling()
    training: dict[str, JsonValue]
    """How it was trained, in full: the plan of the run, wall-clock minutes, hardware."""
    metrics: dict[str, dict[str, float]]
    """Per validation set: accuracy, macro_f1, and recall per label."""
    data: tuple[DataSet, ...]
    commit: str
    """Git commit of the code that trained it."""
    notes: str
    """Known limits, in plain words."""
    files: dict[str, Sha256] = Field(default={})
    """Every other file of the folder, by relative path."""

    @property
    def name(self) -> str:
        return folder_name(self.version)

    def model(self, graph: str) -> str:
        return model_name(self.version, graph)


def folder_name(version: int) -> str:
    """The release's folder in a model repository, such as `mien_000001`."""
    return f"mien_{version:06d}"


def model_name(version: int, graph: str) -> str:
    """Triton's name for one of a release's two graphs, such as `mien_000001_frames`."""
    return f"{folder_name(version)}_{graph}"


def read(path: Path) -> Release:
    """Read one `release.json`. Raises ModelVersionUnavailable when it is not there, ModelContractMismatch when it is not ours."""
    try:
        release = Release.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ModelVersionUnavailable(f"no {path.name} in {path.parent.name}") from None
    except ValidationError as error:
        raise ModelContractMismatch(str(error)) from error
    if release.labels != LABELS:
        raise ModelContractMismatch(f"labels {release.labels}")
    return release


def load(models: Path, version: int) -> Release:
    """Read a published release and check every file against its digest. Raises ReleaseError where one is missing or another."""
    folder = models / folder_name(version)
    release = read(folder / "release.json")
    for name, expected in release.files.items():
        actual = file_sha256(folder / name) if (folder / name).is_file() else "missing"
        if actual != expected:
            raise ModelDigestMismatch(f"{release.name}/{name}", expected=expected, actual=actual)
    return release


def published(models: Path) -> list[int]:
    """Versions in a model repository, oldest first. A folder that is still being written has another name."""
    return sorted(int(path.parent.name.removeprefix("mien_")) for path in models.glob("mien_[0-9][0-9][0-9][0-9][0-9][0-9]/release.json"))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

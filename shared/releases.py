"""A release: the two graphs of one trained network, in an immutable folder that Triton serves.

    models/                            the Triton model repository
      mien_000001/                     the release: written aside, fsynced, renamed
        release.json                   this contract; names the sha256 of every other file
        release.json.sig               who vouches for it, see shared.signatures
        weights.safetensors            what the graphs were built from
        MODEL_CARD.md                  the same for people, where there is one
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
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, JsonValue, ValidationError

from shared.errors import ModelContractMismatch, ModelDigestMismatch, ModelVersionUnavailable
from shared.expressions import LABELS
from shared.jobs import Contract

if TYPE_CHECKING:
    from shared.signatures import TrustedKeys  # whoever checks no signatures, such as Triton's image, needs no cryptography

FRAMES_INPUT: Final = "faces__0"
FRAMES_OUTPUTS: Final = ("features__0", "region_weights__1", "spatial_maps__2")
CLIP_INPUTS: Final = ("features__0", "mask__1")
CLIP_OUTPUTS: Final = ("logits__0", "frame_weights__1")
GRAPHS: Final = ("frames", "clip")
CONTROL_HEADER: Final = "mien-control"
"""Where whoever publishes shows a Triton that asks for one the secret that opens its control API."""
MANIFEST: Final = "release.json"
SIGNATURE: Final = "release.json.sig"
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "MODEL_CARD.md"

PREPROCESS_VERSION: Final = "p1"
"""Changes whenever the same landmarks in the same frame would give another face tensor: a release serves only with the crops it was
trained on."""

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
    """What the crop store is called."""
    use: str
    """`train`, `validation` or `unlabelled`."""
    samples: int
    """Clips of it that were used."""
    licence: str
    """What its owner allows."""
    sha256: Sha256
    """Of the crop store that was read."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the store's subjects that nothing was learnt from, as `split_by_subject` of `training.datasets` takes it. 0 where all of it
    was used, and in releases that were trained before this was written down."""


class Release(Contract):
    """`release.json`."""

    version: Annotated[int, Field(ge=1, le=999_999)]
    """Only ever grows."""
    parent: int | None = None
    """The release whose network was the teacher."""
    labels: tuple[str, ...] = LABELS
    """What it tells apart, in the order of its outputs."""
    size: Annotated[int, Field(ge=32, multiple_of=8)]
    """S: side of the square face, eyes and mouth crops, in pixels."""
    width: Annotated[float, Field(gt=0, le=2)]
    """Channel multiplier; 1.0 is the paper's."""
    feature_size: Annotated[int, Field(gt=0)]
    """F: length of one frame's feature."""
    preprocess: str = PREPROCESS_VERSION
    """Version of the cropping code that it was trained with."""
    sampling: Sampling = Sampling()
    """How a track becomes the clips that it judges."""
    training: dict[str, JsonValue]
    """How it was trained, in full: the plan of the run, wall-clock minutes, hardware."""
    metrics: dict[str, dict[str, float]]
    """Per validation set: accuracy, macro_f1, and recall per label."""
    data: tuple[DataSet, ...]
    """What it was trained and measured on."""
    commit: str
    """Git commit of the code that trained it."""
    notes: str
    """Known limits, in plain words."""
    files: dict[str, Sha256] = Field(default={})
    """Every other file of the folder but the signature, by relative path."""

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


def link_target(version: int, graph: str) -> Path:
    """Where Triton's name for a graph leads, relative to the model repository."""
    return Path(folder_name(version)) / graph


def read(path: Path) -> Release:
    """Read one `release.json`. Raises ModelVersionUnavailable when it is not there, ModelContractMismatch when it is not ours."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise ModelVersionUnavailable(f"no {path.name} in {path.parent.name}") from None


def parse(content: bytes) -> Release:
    """The bytes of a `release.json`. Raises ModelContractMismatch when they are not ours."""
    try:
        release = Release.model_validate_json(content)
    except ValidationError as error:
        raise ModelContractMismatch(str(error)) from error
    if release.labels != LABELS:
        raise ModelContractMismatch(f"labels {release.labels}")
    return release


def load(models: Path, version: int, *, trusted: "TrustedKeys | None" = None) -> Release:
    """Read a published release and check that its folder holds every file that it names, unchanged, and no other.

    With `trusted`, one of these keys must have signed it. Raises ReleaseError.
    """
    folder = models / folder_name(version)
    release = parse(trusted.check(folder)) if trusted else read(folder / MANIFEST)
    if release.version != version:
        raise ModelContractMismatch(f"{folder.name} holds release {release.version}")
    check_files(release, folder)
    _check_links(release, models)
    return release


def check_files(release: Release, folder: Path) -> None:
    """Raise ModelDigestMismatch or ModelContractMismatch unless the folder holds what the release names, and nothing else.

    Triton would run a `frames/2/model.pt` rather than the `frames/1/model.pt` whose digest is right.
    """
    for name, expected in release.files.items():
        actual = file_sha256(folder / name) if _is_plain(folder / name) else "missing"
        if actual != expected:
            raise ModelDigestMismatch(f"{folder.name}/{name}", expected=expected, actual=actual)
    unnamed = sorted(set(_files(folder)) - release.files.keys() - {MANIFEST, SIGNATURE})
    if unnamed:
        raise ModelContractMismatch(f"{folder.name} holds {unnamed[0]}, which its {MANIFEST} does not name")


def check_servable(release: Release) -> None:
    """Raise ModelContractMismatch when this code would crop faces otherwise than the release was trained on."""
    if release.preprocess != PREPROCESS_VERSION:
        raise ModelContractMismatch(f"{release.name} takes crops of version {release.preprocess}, this is {PREPROCESS_VERSION}")


def _check_links(release: Release, models: Path) -> None:
    """What Triton sees under a release's names must be that release. A link that is not there yet is for Triton to miss."""
    for graph in GRAPHS:
        link, target = models / release.model(graph), link_target(release.version, graph)
        if os.path.lexists(link) and not (link.is_symlink() and link.readlink() == target):
            raise ModelContractMismatch(f"{link.name} does not lead to {target}")


def _files(folder: Path) -> Iterator[str]:
    """Everything in a folder that is no folder, by relative path. Links are not followed, so one to a folder counts, too."""
    for root, folders, files in os.walk(folder):
        links = (name for name in folders if Path(root, name).is_symlink())
        yield from (Path(root, name).relative_to(folder).as_posix() for name in (*files, *links))


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def published(models: Path) -> list[int]:
    """Versions in a model repository, oldest first. A folder that is still being written has another name."""
    return sorted(int(path.parent.name.removeprefix("mien_")) for path in models.glob("mien_[0-9][0-9][0-9][0-9][0-9][0-9]/release.json"))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

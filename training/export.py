"""From weights to a release that Triton serves: `python -m training.export --weights training/releases/000001 --models models`.

    weights folder                        model repository
      release.json                          mien_000001/          release.json, weights.safetensors, both graphs
      weights.safetensors     ------>       mien_000001_frames -> mien_000001/frames
                                            mien_000001_clip   -> mien_000001/clip

Weights travel as safetensors, which cannot carry code; the TorchScript is built here, from the network's own source. The
folder appears under its final name only when it is whole, on the disk, and answers with the eager network's numbers.
"""

import argparse
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import torch
from torch import Tensor, nn

from shared.errors import MienError, ModelContractMismatch, ModelDigestMismatch, ReleaseError
from shared.expressions import LABELS, REGIONS
from shared.releases import CLIP_INPUTS, CLIP_OUTPUTS, FRAMES_INPUT, FRAMES_OUTPUTS, GRAPHS, WEIGHTS, Release, file_sha256, load, read
from shared.videos import fsync_folder, write_durably
from training.network import ClipClassifier, FrameEncoder, Network
from training.plan import Design
from training.weights import read_network

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""How far a graph's numbers may be from the eager network's."""

MAX_BATCH = 64
INSTANCES = 2
"""Of the frame graph: one computes while the other one's tensors are on their way, and on a CPU each has a core to itself."""
WARMUP_BATCHES = (1, 16)
WARMUP_RUNS = 3
"""TorchScript profiles its first two runs of a graph and optimises after them."""
WARMUP_FRAMES = 4
"""Frames of the clip in the warm-up of `clip`."""


def export(weights: Path, models: Path) -> Path:
    """Publish a weights folder as a release in a model repository; the path is the release's folder.

    Publishing the same weights again changes nothing but missing links. Raises ReleaseError where another release holds the
    version, ModelContractMismatch where the weights are not the network's, ModelDigestMismatch where they are not the
    ones that `release.json` names.
    """
    release = read(weights / "release.json")
    release = release.model_copy(update={"files": {WEIGHTS: _weights_sha256(release, weights)}})
    folder = models / release.name
    if folder.exists():
        _check_same(release, models)
    else:
        models.mkdir(parents=True, exist_ok=True)
        _publish(release, weights / WEIGHTS, folder)
    for graph in GRAPHS:
        _link(models / release.model(graph), Path(release.name) / graph)
    return folder


def read_release_network(release: Release, weights: Path) -> Network:
    """The release's network in fp32, ready to judge. Raises ModelContractMismatch unless the weights are those of its width."""
    network = read_network(weights, Design(width=release.width))
    if network.encoder.feature_size != release.feature_size:
        raise ModelContractMismatch(f"width {release.width} gives features of {network.encoder.feature_size}, not {release.feature_size}")
    return network


class ChannelsLastEncoder(nn.Module):
    """The encoder over NHWC memory, which the convolutions of CPUs and tensor cores are fastest with.

    Turning the uint8 input over, a quarter of the bytes of fp32, and the weights once before freezing, gave 75 frames/s where
    NCHW gave 51 (width 0.5, 224 px, two cores).
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        self.encoder = encoder.to(memory_format=torch.channels_last)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, region_weights, spatial_maps = self.encoder(faces.contiguous(memory_format=torch.channels_last))
        return features, region_weights, spatial_maps


def _weights_sha256(release: Release, weights: Path) -> str:
    try:
        actual = file_sha256(weights / WEIGHTS)
    except FileNotFoundError:
        raise ReleaseError(f"no {WEIGHTS} in {weights}") from None
    expected = release.files.get(WEIGHTS, actual)
    if actual != expected:
        raise ModelDigestMismatch(WEIGHTS, expected=expected, actual=actual)
    return actual


def _check_same(release: Release, models: Path) -> None:
    """A release is immutable: raise ReleaseError unless the published one has the same weights and says the same about them."""
    there = load(models, release.version)
    if there.model_copy(update={"files": {WEIGHTS: there.files.get(WEIGHTS)}}) != release:
        raise ReleaseError(f"{release.name} is published with other weights or another release.json; releases are never overwritten")


def _publish(release: Release, weights: Path, folder: Path) -> None:
    """Write aside, fsync everything, rename: other programs see no release, or the whole one."""
    aside = Path(mkdtemp(prefix=".export-", dir=folder.parent))
    try:
        _write(release, weights, aside)
        aside.chmod(0o755)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync_folder(folder.parent)


def _write(release: Release, weights: Path, folder: Path) -> None:
    network = read_release_network(release, weights)
    encoder, clip = network.encoder, network.clip
    shutil.copyfile(weights, folder / WEIGHTS)
    faces, features, mask = _example(release, batch=2, frames=3)
    _write_graph(folder / "frames", ChannelsLastEncoder(encoder), (faces,), frames_config(release))
    _write_graph(folder / "clip", clip, (features, mask), clip_config(release))
    _check_frames(encoder, folder / "frames/1/model.pt", release)
    _check_clip(clip, folder / "clip/1/model.pt", release)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in written}
    write_durably(folder / "release.json", release.model_copy(update={"files": files}).model_dump_json(indent=1).encode())
    for path in written:
        _fsync_file(path)
    for directory in (path for path in folder.rglob("*") if path.is_dir()):
        fsync_folder(directory)
    fsync_folder(folder)


def _write_graph(folder: Path, network: nn.Module, example: tuple[Tensor, ...], config: str) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(f"{config}\n")
    with torchscript(), torch.no_grad():
        graph = torch.jit.freeze(torch.jit.trace(network.eval(), example))
        torch.jit.save(graph, str(folder / "1" / "model.pt"))


@contextmanager
def torchscript() -> Iterator[None]:
    """Silence torch's one announcement that TorchScript will not be developed further; libtorch in Triton still serves it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
        yield


# --- a graph is published only when it gives the eager network's numbers, also for batches it was not traced with ---


def _check_frames(encoder: FrameEncoder, graph: Path, release: Release) -> None:
    for batch in (1, 3):
        faces, _, _ = _example(release, batch=batch, frames=1)
        _check_close(encoder, graph, (faces,))


def _check_clip(clip: ClipClassifier, graph: Path, release: Release) -> None:
    for batch, frames in ((1, 1), (3, 5)):
        _, features, mask = _example(release, batch=batch, frames=frames)
        _check_close(clip, graph, (features, mask))


def _check_close(network: nn.Module, graph: Path, inputs: tuple[Tensor, ...]) -> None:
    with torchscript(), torch.inference_mode():
        expected, actual = network(*inputs), torch.jit.load(str(graph))(*inputs)
    for name, left, right in zip(("first", "second", "third"), expected, actual, strict=False):
        if left.shape != right.shape or not torch.allclose(left, right, atol=TOLERANCE, rtol=TOLERANCE):
            raise ModelContractMismatch(f"the {name} output of the {graph.parent.parent.name} graph is not the network's")


def _example(release: Release, *, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random faces uint8 (B, 9, S, S), features (B, T, F) and mask (B, T), whose last frame is padding when there are several."""
    generator = torch.Generator().manual_seed(batch)
    faces = torch.randint(0, 256, (batch, 3 * len(REGIONS), release.size, release.size), dtype=torch.uint8, generator=generator)
    features = torch.randn(batch, frames, release.feature_size, generator=generator)
    mask = torch.ones(batch, frames)
    if frames > 1:
        mask[:, -1] = 0
    return faces, features, mask


# --- Triton's side: one config for NVIDIA's libtorch backend and for the CPU backend of deploy/triton ----------------


def frames_config(release: Release) -> str:
    """`config.pbtxt` of the frame graph. It names no device, so the same file serves on CPU and GPU."""
    size, region_count = release.size, len(REGIONS)
    faces = [3 * region_count, size, size]
    outputs = ([release.feature_size], [region_count], [region_count, size // 8, size // 8])
    return "\n".join(
        (
            _header(),
            _tensors("input", [(FRAMES_INPUT, "TYPE_UINT8", faces)]),
            _tensors("output", [(name, "TYPE_FP32", dims) for name, dims in zip(FRAMES_OUTPUTS, outputs, strict=True)]),
            "dynamic_batching { }",  # what waits when an instance is free is one batch, and nothing waits for more to come
            f"instance_group [ {{ count: {INSTANCES} }} ]",
            *(_warmup(batch, [(FRAMES_INPUT, "TYPE_UINT8", faces)]) for batch in WARMUP_BATCHES),
        )
    )


def clip_config(release: Release) -> str:
    """`config.pbtxt` of the clip graph. Triton merges only requests of equal T, the number of frames in a clip."""
    features, mask = CLIP_INPUTS
    size = release.feature_size
    outputs = ([len(LABELS)], [-1])
    warm = [(features, "TYPE_FP32", [WARMUP_FRAMES, size]), (mask, "TYPE_FP32", [WARMUP_FRAMES])]
    return "\n".join(
        (
            _header(),
            _tensors("input", [(features, "TYPE_FP32", [-1, size]), (mask, "TYPE_FP32", [-1])]),
            _tensors("output", [(name, "TYPE_FP32", dims) for name, dims in zip(CLIP_OUTPUTS, outputs, strict=True)]),
            "dynamic_batching { }",
            *(_warmup(batch, warm) for batch in WARMUP_BATCHES),
        )
    )


TensorSpec = tuple[str, str, list[int]]
"""Name, Triton's data type, and dimensions without the batch."""


def _header() -> str:
    return f'backend: "pytorch"\nmax_batch_size: {MAX_BATCH}'


def _tensors(kind: str, specs: list[TensorSpec]) -> str:
    rows = (f'  {{ name: "{name}" data_type: {data_type} dims: {dims} }}' for name, data_type, dims in specs)
    return f"{kind} [\n" + ",\n".join(rows) + "\n]"


def _warmup(batch: int, specs: list[TensorSpec]) -> str:
    """READY then means warm: Triton runs this before it announces the model."""
    rows = (
        f'  inputs {{ key: "{name}" value: {{ data_type: {data_type} dims: {dims} random_data: true }} }}'
        for name, data_type, dims in specs
    )
    return f'model_warmup {{\n  name: "batch of {batch}" batch_size: {batch} count: {WARMUP_RUNS}\n' + "\n".join(rows) + "\n}"


# --- files ---------------------------------------------------------------------------------------------------------


def _link(link: Path, target: Path) -> None:
    """Point a relative symlink at a release's graph, in one step: nobody sees it missing once it has been there."""
    if link.is_symlink() and link.readlink() == target:
        return
    aside = link.with_name(f".{link.name}.{uuid4().hex}")
    aside.symlink_to(target)
    aside.rename(link)
    fsync_folder(link.parent)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Publish weights as a release that Triton serves.")
    parser.add_argument("--weights", type=Path, required=True, help="folder with release.json and weights.safetensors")
    parser.add_argument("--models", type=Path, required=True, help="Triton's model repository")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folder = export(arguments.weights, arguments.models)
    except MienError as error:
        parser.exit(1, f"{error.title()} {error.detail}\n")
    log.info("%s is in %s", folder.name, arguments.models)


if __name__ == "__main__":
    main()

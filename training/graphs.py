"""What Triton runs for a release: two TorchScript graphs with their configs, and the proof that they give the network's numbers.

TorchScript is built from the network's own source, on the machine that serves it; only weights travel.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.errors import ModelContractMismatch
from shared.expressions import LABELS, REGIONS
from shared.releases import CLIP_INPUTS, CLIP_OUTPUTS, FRAMES_INPUT, FRAMES_OUTPUTS, GRAPHS, Release
from training.network import FrameEncoder, Network

TOLERANCE = 1e-4
"""How far a graph's numbers may be from the eager network's, absolutely and relatively."""

MAX_BATCH = 64
INSTANCES = 2
"""Of the frame graph: one computes while the other one's tensors are on their way, and on a CPU each has a core to itself."""
WARMUP_BATCHES = (1, 16)
WARMUP_RUNS = 3
"""TorchScript profiles its first two runs of a graph and optimises after them."""
WARMUP_FRAMES = 4
"""Frames of the clip in the warm-up of `clip`."""


def traced(release: Release, network: Network) -> tuple[torch.jit.ScriptModule, torch.jit.ScriptModule]:
    """The graphs `frames` and `clip`, frozen."""
    faces, features, mask = examples(release, batch=2, frames=3)
    with torchscript(), torch.no_grad():
        frames = torch.jit.freeze(torch.jit.trace(ChannelsLastEncoder(network.encoder).eval(), (faces,)))
        clip = torch.jit.freeze(torch.jit.trace(network.clip.eval(), (features, mask)))
    return frames, clip


def write_graphs(release: Release, network: Network, folder: Path) -> None:
    """Write both graphs and their configs as Triton wants them. Raises ModelContractMismatch unless they give the network's numbers."""
    graphs = traced(release, network)
    for name, graph, config in zip(GRAPHS, graphs, (frames_config(release), clip_config(release)), strict=True):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(f"{config}\n")
        (folder / name / "1" / "model.pt").write_bytes(serialised(graph))
    check_parity(release, network, *(read_graph(folder / name / "1" / "model.pt") for name in GRAPHS))


def serialised(graph: torch.jit.ScriptModule) -> bytes:
    """A graph's file. Written by Python, a full disk is an OSError; torch's own writer calls it a RuntimeError."""
    buffer = io.BytesIO()
    with torchscript():
        torch.jit.save(graph, buffer)
    return buffer.getvalue()


def read_graph(path: Path) -> torch.jit.ScriptModule:
    """A graph that this machine has made itself: its file can hold code."""
    with torchscript():
        graph: torch.jit.ScriptModule = torch.jit.load(str(path))
        return graph


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


@contextmanager
def torchscript() -> Iterator[None]:
    """Silence torch's one announcement that TorchScript will not be developed further; libtorch in Triton still serves it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
        yield


# --- the same numbers, also for batches that a graph was not traced with ---------------------------------------------


@torch.inference_mode()
def check_parity(release: Release, network: Network, frames: torch.jit.ScriptModule, clip: torch.jit.ScriptModule) -> None:
    """Raise ModelContractMismatch unless both graphs give the eager network's numbers."""
    for batch in (1, 3):
        faces, _, _ = examples(release, batch=batch, frames=1)
        _require_close("frames", network.encoder(faces), frames(faces))
    for batch, count in ((1, 1), (3, 5)):
        _, features, mask = examples(release, batch=batch, frames=count)
        _require_close("clip", network.clip(features, mask), clip(features, mask))


def are_close(expected: Sequence[Tensor], actual: Sequence[Tensor]) -> bool:
    """Whether all tensors of one answer are those of another, within TOLERANCE. NaN is close to nothing."""
    return all(
        left.shape == right.shape and torch.allclose(left, right, atol=TOLERANCE, rtol=TOLERANCE)
        for left, right in zip(expected, actual, strict=True)
    )


def examples(release: Release, *, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random faces uint8 (B, 9, S, S), features (B, T, F) and mask (B, T), whose last frame is padding when there are several."""
    generator = torch.Generator().manual_seed(batch)
    faces = torch.randint(0, 256, (batch, 3 * len(REGIONS), release.size, release.size), dtype=torch.uint8, generator=generator)
    features = torch.randn(batch, frames, release.feature_size, generator=generator)
    mask = torch.ones(batch, frames)
    if frames > 1:
        mask[:, -1] = 0
    return faces, features, mask


def _require_close(graph: str, expected: Sequence[Tensor], actual: Sequence[Tensor]) -> None:
    if not are_close(expected, actual):
        raise ModelContractMismatch(f"the {graph} graph does not give the network's numbers")


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

"""From a trained generator to the folder that the worker takes: TorchScript in half precision, and the words that go with it."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.enlighteners import GENERATOR, MANIFEST, MAX_BYTES, STRIDE, Enlightener
from shared.errors import ModelContractMismatch
from shared.releases import file_sha256
from shared.videos import storage_errors, write_durably
from training.enlighten.network import Generator
from training.graphs import read_graph, serialised, torchscript

TOLERANCE = 1e-4
TRACED_SIDES, OTHER_SIDES = (4 * STRIDE, 6 * STRIDE), (3 * STRIDE, 10 * STRIDE)


class Shipped(nn.Module):
    """The generator between bytes and fractions, so that nobody can get the normalisation wrong."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) to fp32 RGB from 0 to 1 of the same shape."""
        brightened: Tensor = self.generator(pictures.float() / 127.5 - 1)
        return ((brightened + 1) / 2).clamp(0, 1)


def round_to_half(generator: Generator) -> None:
    """Round every number to the precision that it is written in, so that what is measured is what is shipped."""
    rounded = {name: value.half().float() if value.is_floating_point() else value for name, value in generator.state_dict().items()}
    generator.load_state_dict(rounded)


def write_enlightener(generator: Generator, words: Enlightener, folder: Path) -> Enlightener:
    """Write both files; returns the words with the generator's digest.

    Raises ModelContractMismatch unless what was written gives the generator's numbers, at other sizes too, and InsufficientStorage.
    """
    shipped = Shipped(generator.eval())
    with torchscript(), torch.no_grad():
        graph = torch.jit.trace(copy.deepcopy(shipped), (example(*TRACED_SIDES),)).half()  # which changes what was traced
    content = serialised(graph)
    if len(content) > MAX_BYTES:
        raise ModelContractMismatch(f"{GENERATOR} has {len(content)} bytes, {MAX_BYTES} at most")
    with storage_errors():
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / GENERATOR, content)
        check_parity(shipped, folder / GENERATOR)
        whole = words.model_copy(update={"sha256": file_sha256(folder / GENERATOR)})
        write_durably(folder / MANIFEST, whole.model_dump_json(indent=1).encode() + b"\n")
    return whole


@torch.inference_mode()
def check_parity(shipped: Shipped, path: Path) -> None:
    """Raise ModelContractMismatch unless the file, read as the worker reads it, gives the numbers of the network."""
    graph = read_graph(path).float()
    for sides in (TRACED_SIDES, OTHER_SIDES):
        pictures = example(*sides)
        if not torch.allclose(shipped(pictures), graph(pictures), atol=TOLERANCE):
            raise ModelContractMismatch(f"{GENERATOR} does not give the network's numbers")


def example(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)

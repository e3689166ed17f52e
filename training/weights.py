"""Weights on disk: safetensors, which cannot carry code, in half precision."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from shared.errors import ModelContractMismatch, ReleaseError
from shared.releases import WEIGHTS
from shared.videos import storage_errors, write_durably
from training.network import Network
from training.plan import Design


def write_weights(network: Network, folder: Path) -> None:
    """Write weights.safetensors. Raises InsufficientStorage."""
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    with storage_errors():
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / WEIGHTS, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def round_to_half(network: Network) -> None:
    """Round every number to the precision that it is written in, so that what is measured is what is shipped."""
    rounded = {name: value.half().float() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    network.load_state_dict(rounded)


def read_network(path: Path, design: Design) -> Network:
    """The network of this design with the weights in a file, in fp32, ready to judge.

    Raises ReleaseError where there is none, and ModelContractMismatch unless every tensor is there, finite, and expected.
    """
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError:
        raise ReleaseError(f"no {path.name} in {path.parent.name}") from None
    except SafetensorError as error:
        raise ModelContractMismatch(f"{path.name}: {error}") from error
    broken = sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if broken:
        raise ModelContractMismatch(f"NaN or infinity in {', '.join(broken)}")
    network = Network(design)
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        first, *rest = [line.strip() for line in str(error).splitlines()[1:]]
        raise ModelContractMismatch(f"{first} And {len(rest)} more." if rest else first) from error
    return network.eval()

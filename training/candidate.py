"""A fitted network in the shape of a release: finished, measured as it is shipped, and described."""

import os
import platform
import subprocess
from pathlib import Path

import torch
from torch import nn

from shared.errors import PlanImpossible
from shared.pixels import LUMA
from shared.releases import MANIFEST, WEIGHTS, DataSet, Release, file_sha256
from shared.videos import storage_errors, write_durably
from training.card import CARD, render
from training.datasets import Clips
from training.network import FrameEncoder, Network
from training.plan import Design
from training.weights import write_weights


@torch.no_grad()
def read_luminance(encoder: FrameEncoder) -> None:
    """Make an encoder that has only seen luma see the same luma in colours.

    Of the first layer only the sum of its weights over colours was learnt, and its split is what chance made it. Splitting it
    as luma is split changes no output on grey pictures.
    """
    stem = encoder.stem[0]
    if not isinstance(stem, nn.Conv2d):
        raise TypeError("the stem begins with a convolution")
    stem.weight.copy_(stem.weight.sum(dim=1, keepdim=True) * torch.tensor(LUMA).reshape(1, 3, 1, 1))


def write_candidate(network: Network, release: Release, folder: Path) -> Release:
    """Write weights, model card and, last, `release.json`; returns the release with their digests.

    Raises PlanImpossible for a network with parts left out, which no server could run.
    """
    if network.design != Design(width=release.width):
        raise PlanImpossible("a release has all regions and all attentions")
    write_weights(network, folder)
    with storage_errors():
        write_durably(folder / CARD, render(release).encode())
        whole = release.model_copy(update={"files": {name: file_sha256(folder / name) for name in (WEIGHTS, CARD)}})
        write_durably(folder / MANIFEST, whole.model_dump_json(indent=1).encode() + b"\n")
    return whole


def described(parts: list[Clips], use: str) -> tuple[DataSet, ...]:
    """Each set once, however often it was drawn from."""
    seen = {
        part.name: DataSet(
            name=part.name,
            use=use,
            samples=len(set(part.first.tolist())),
            licence=part.licence,
            sha256=part.sha256,
            held_out=part.held_out,
        )
        for part in parts
    }
    return tuple(seen.values())


def described_commit() -> str:
    """The commit of this code, marked when it has been changed since; `unknown` outside a checkout or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def described_hardware(device: torch.device, processes: int) -> str:
    """What a run was computed with."""
    if device.type == "cuda":
        return f"{processes} x {torch.cuda.get_device_name(device)}"
    return f"{processes} x {torch.get_num_threads()} of {os.cpu_count()} cores, {platform.machine()}"

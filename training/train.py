"""One training run: labelled crops in, weights and an honest `release.json` out.

    python -m training.train --train crops/fer2013-train --split crops/faces-labelled --validate crops/fer2013-val \
        --run runs/first --version 1 --release training/releases/000001

A killed run goes on from its last finished epoch when it is started again with the same arguments.
"""

import argparse
import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from shared.releases import WEIGHTS, DataSet, Release, file_sha256
from training.attention import fit_frame_attention
from training.datasets import Faces, read_faces, split_by_subject
from training.evaluate import evaluate
from training.fit import Network, Recipe, fit
from training.network import LUMA, FrameEncoder
from training.noise import Noise


def train_release(
    train: list[Faces], validate: list[Faces], *, recipe: Recipe, noise: Noise, run: Path, version: int, notes: str, folder: Path
) -> Release:
    """Fit a network and leave it in `folder` as a release, measured as it is shipped."""
    commit = described_commit()
    fitted = fit(train, recipe=recipe, noise=noise, validate=validate, folder=run)
    network = fitted.network
    read_luminance(network.encoder)
    fit_frame_attention(network.encoder, network.clip, train[0], steps=recipe.attention_steps, seed=recipe.seed)
    round_to_half(network)
    release = Release(
        version=version,
        size=train[0].size,
        width=recipe.width,
        feature_size=network.encoder.feature_size,
        training={
            "optimiser": "AdamW",
            **asdict(recipe),
            **{f"noise_{name}": strength for name, strength in asdict(noise).items()},
            "minutes": round(fitted.minutes, 1),
            "hardware": f"{torch.get_num_threads()} of {os.cpu_count()} cores, {platform.machine()}, bfloat16",
        },
        metrics={part.name: evaluate(network.encoder, network.clip, part).figures() for part in validate},
        data=described(train, "train") + described(validate, "validation"),
        commit=commit,
        notes=notes,
    )
    return write_release(network, release, folder)


@torch.no_grad()
def read_luminance(encoder: FrameEncoder) -> None:
    """Make an encoder that has only seen grey pictures see the same luma in coloured ones.

    On grey pictures the three colours of a region are equal, so only the sum of their first-layer weights was learnt and
    its split is what chance made it. Splitting it as luma is split changes no output on grey pictures.
    """
    stem = encoder.stem[0]
    if not isinstance(stem, nn.Conv2d):
        raise TypeError("the stem begins with a convolution")
    stem.weight.copy_(stem.weight.sum(dim=1, keepdim=True) * torch.tensor(LUMA).reshape(1, 3, 1, 1))


def round_to_half(network: Network) -> None:
    """Round every number to the half precision that it is shipped in, so that what is measured is what is shipped."""
    rounded = {name: value.half().float() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    network.load_state_dict(rounded)


def described(parts: list[Faces], use: str) -> tuple[DataSet, ...]:
    """Each set once, however often it was drawn from."""
    seen = {part.name: DataSet(name=part.name, use=use, samples=len(part), licence=part.licence, sha256=part.sha256) for part in parts}
    return tuple(seen.values())


def described_commit() -> str:
    """The commit of this code, marked when it has been changed since; `unknown` outside a checkout or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def write_release(network: Network, release: Release, folder: Path) -> Release:
    """Write weights.safetensors in half precision, and release.json; returns the release with the digest of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().contiguous() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    weights = folder / WEIGHTS
    save_file(tensors, weights)
    weights.chmod(0o644)  # safetensors keeps it to its owner, and an image's user is another one
    whole = release.model_copy(update={"files": {weights.name: file_sha256(weights)}})
    (folder / "release.json").write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, action="append", required=True, help="crop store to learn from, whole; repeat for more")
    parser.add_argument("--validate", type=Path, action="append", default=[], help="crop store to be measured on")
    parser.add_argument(
        "--split", type=Path, action="append", default=[], help="crop store of known subjects: some to learn from, some held out"
    )
    parser.add_argument("--held-out", type=float, default=0.2, help="share of each --split store's subjects that is held out")
    parser.add_argument("--repeat", type=int, default=3, help="times a --split store is counted, to weigh it against larger ones")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint and history")
    parser.add_argument("--release", type=Path, required=True, help="folder for weights.safetensors and release.json")
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--notes", default="", help="known limits, in plain words")
    for field, default in asdict(Recipe()).items():
        parser.add_argument("--" + field.replace("_", "-"), type=type(default), default=default)
    args = parser.parse_args()
    halves = [split_by_subject(read_faces(folder), held_out=args.held_out) for folder in args.split]
    release = train_release(
        [read_faces(folder) for folder in args.train] + [kept for kept, _ in halves for _ in range(args.repeat)],
        [read_faces(folder) for folder in args.validate] + [held_out for _, held_out in halves],
        recipe=Recipe(**{field: getattr(args, field) for field in asdict(Recipe())}),
        noise=Noise(),
        run=args.run,
        version=args.version,
        notes=args.notes,
        folder=args.release,
    )
    print(json.dumps(release.metrics, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()

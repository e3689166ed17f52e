"""One training run: labelled crops in, weights and an honest `release.json` out.

    python -m training.fit --train crops/fer2013-train --train crops/faces-labelled --validate crops/fer2013-val \
        --run runs/first --version 1 --release training/releases/000001

A killed run resumes from its last epoch. `--held-out` keeps that share of each training set's known subjects for validation.
"""

import argparse
import json
import math
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.errors import MienError
from shared.expressions import LABELS
from shared.releases import DataSet, Release, file_sha256
from training.datasets import Faces, read_faces, split_by_subject
from training.evaluate import Report, evaluate
from training.network import ClipClassifier, FrameEncoder
from training.noise import Noise


class TrainingDiverged(MienError):
    """The loss is not a number."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a run goes; written into the release."""

    width: float = 0.25
    epochs: int = 40
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    average_decay: float = 0.999
    """Of the exponential moving average of the weights, which is what is evaluated and released."""
    balance: float = 0.5
    """0 draws faces as they come, 1 draws every class equally often; 0.5 weighs by one over the root of the class's size."""
    attention_epochs: int = 20
    seed: int = 1


class Network(nn.Module):
    """Encoder and classifier as one module, so that one optimiser and one average hold both."""

    def __init__(self, *, width: float) -> None:
        super().__init__()
        self.encoder = FrameEncoder(width=width)
        self.clip = ClipClassifier(self.encoder.feature_size)

    def forward(self, faces: Tensor) -> Tensor:
        """Faces uint8 (N, 9, S, S) as N clips of one frame to logits (N, 7)."""
        features, _, _ = self.encoder(faces)
        logits: Tensor = self.clip(features.unsqueeze(1), torch.ones(len(faces), 1))[0]
        return logits


def fit(train: list[Faces], *, recipe: Recipe, noise: Noise, validate: list[Faces], run: Path) -> Network:
    """Train a network on all of `train`, noting loss and validation figures per epoch in `run`; returns the averaged one.

    Resumes from `run/checkpoint.pt`. Raises TrainingDiverged at the first loss that is not a number.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    faces, labels = torch.cat([part.faces for part in train]), torch.cat([part.labels for part in train])
    network: Network = Network(width=recipe.width).to(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average_decay), use_buffers=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = math.ceil(len(labels) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_then_cosine(recipe, steps))
    state = {"network": network, "average": average, "optimiser": optimiser, "schedule": schedule}
    for epoch in range(resume(state, run), recipe.epochs):
        began = time.monotonic()
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        torch.manual_seed(recipe.seed * 100_003 + epoch)
        order = torch.multinomial(draw_weights(labels, recipe.balance), len(labels), replacement=True, generator=generator)
        losses = []
        network.train()
        for rows in order.split(recipe.batch):
            losses.append(step(network, noise(faces[rows]), labels[rows], optimiser=optimiser, smoothing=recipe.label_smoothing))
            schedule.step()
            average.update_parameters(network)
        averaged = cast("Network", average.module)
        reports = {part.name: evaluate(averaged.encoder, averaged.clip, part) for part in validate}
        note(run, epoch=epoch, loss=sum(losses) / len(losses), seconds=time.monotonic() - began, reports=reports)
        save(state, run, epoch=epoch)
    return cast("Network", average.module)


def step(network: Network, faces: Tensor, labels: Tensor, *, optimiser: torch.optim.Optimizer, smoothing: float) -> float:
    """One update in bfloat16 autocast; returns the loss before it."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(faces.contiguous(memory_format=torch.channels_last))
    loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
    if not torch.isfinite(loss):
        raise TrainingDiverged(f"loss {loss.item()}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss.item()


def draw_weights(labels: Tensor, balance: float) -> Tensor:
    """How often to draw each sample: one over its class's size to the power of `balance`."""
    counts = torch.bincount(labels, minlength=len(LABELS)).clamp(min=1)
    return counts.double().pow(-balance)[labels]


def warmup_then_cosine(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The factor on the learning rate after so many steps: up in a line, down in half a cosine."""
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch

    def factor(done: int) -> float:
        if done < warmup:
            return (done + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1.0, total - warmup)))

    return factor


def fit_frame_attention(network: Network, faces: Faces, *, recipe: Recipe, frames: int = 6) -> None:
    """Teach frame attention which frames decide, with everything else frozen.

    Pictures are clips of one frame, on which frame attention always weighs 1. So clips are put together from features:
    one to `frames` frames of one expression among neutral frames, as in acted sequences from neutral to apex, labelled
    with the expression.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    features = encode(network.encoder, faces)
    rows_of = [torch.nonzero(faces.labels == index).flatten() for index in range(len(LABELS))]
    neutral = rows_of[LABELS.index("neutral")]
    present = [index for index, rows in enumerate(rows_of) if len(rows)]
    network.clip.eval()
    optimiser = torch.optim.Adam(network.clip.frame.parameters(), lr=1e-3)
    clips = 256
    for _ in range(recipe.attention_epochs * 10):
        labels = torch.tensor(present)[torch.randint(len(present), (clips,), generator=generator)]
        apex = torch.stack(
            [rows_of[label][torch.randint(len(rows_of[label]), (frames,), generator=generator)] for label in labels.tolist()]
        )
        calm = neutral[torch.randint(len(neutral), (clips, frames), generator=generator)]
        share = torch.rand(clips, 1, generator=generator) * 0.75 + 0.25
        is_apex = torch.rand(clips, frames, generator=generator) < share
        is_apex[:, 0] = True
        logits, _ = network.clip(features[torch.where(is_apex, apex, calm)], torch.ones(clips, frames))
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.inference_mode()
def encode(encoder: FrameEncoder, faces: Faces, *, batch: int = 256) -> Tensor:
    """Features (N, F) of every face, without noise."""
    encoder.eval()
    features = [encoder(group.contiguous(memory_format=torch.channels_last))[0] for group in faces.faces.split(batch)]
    return torch.cat(features).clone()


@torch.no_grad()
def read_luminance(encoder: FrameEncoder) -> None:
    """Make an encoder that has only seen grey pictures see the same luminance in coloured ones.

    On grey pictures the three colours of a region are equal, so only the sum of their first-layer weights was learnt and
    its split is what chance made it. Splitting it as ITU-R BT.601 luma changes no output on grey pictures.
    """
    stem = encoder.stem[0]
    assert isinstance(stem, nn.Conv2d)  # noqa: S101
    luma = torch.tensor((0.299, 0.587, 0.114)).reshape(1, 3, 1, 1)
    stem.weight.copy_(stem.weight.sum(dim=1, keepdim=True) * luma)


# --- what a run leaves behind ----------------------------------------------------------------------------------------


def resume(state: dict[str, object], run: Path) -> int:
    """Load `run/checkpoint.pt` into the run's state; returns the epoch to start with."""
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, holder in state.items():
        holder.load_state_dict(saved[name])  # type: ignore[attr-defined]
    return int(saved["epoch"]) + 1


def save(state: dict[str, object], run: Path, *, epoch: int) -> None:
    aside = run / "checkpoint.aside"
    torch.save({name: holder.state_dict() for name, holder in state.items()} | {"epoch": epoch}, aside)  # type: ignore[attr-defined]
    aside.rename(run / "checkpoint.pt")


def note(run: Path, *, epoch: int, loss: float, seconds: float, reports: dict[str, Report]) -> None:
    """Append the epoch to `run/history.jsonl`, and say it."""
    line = {"epoch": epoch, "loss": round(loss, 4), "seconds": round(seconds, 1)}
    line |= {
        f"{name}_{figure}": round(getattr(report, figure), 4) for name, report in reports.items() for figure in ("accuracy", "macro_f1")
    }
    with (run / "history.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)  # noqa: T201


def write_release(network: Network, release: Release, folder: Path) -> None:
    """Write weights.safetensors (half precision: a quarter of a percent of a weight, half the bytes) and release.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().contiguous() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    weights = folder / "weights.safetensors"
    save_file(tensors, weights)
    weights.chmod(0o644)  # safetensors keeps it to its owner, and an image's user is another one
    digest = file_sha256(weights)
    whole = release.model_copy(update={"files": {"weights.safetensors": digest}})
    (folder / "release.json").write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")


def train_release(args: argparse.Namespace, recipe: Recipe, noise: Noise) -> Release:
    """The whole run, from crop stores to a release folder."""
    began = time.monotonic()
    halves = [split_by_subject(read_faces(folder), held_out=args.held_out) for folder in args.split]
    train = [read_faces(folder) for folder in args.train] + [kept for kept, _ in halves for _ in range(args.repeat)]
    validate = [read_faces(folder) for folder in args.validate] + [held_out for _, held_out in halves]
    network = fit(train, recipe=recipe, noise=noise, validate=validate, run=args.run)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    if all(is_grey(part) for part in train):
        read_luminance(network.encoder)
    fit_frame_attention(network, train[0], recipe=recipe)
    release = Release(
        version=args.version,
        size=train[0].size,
        width=recipe.width,
        feature_size=network.encoder.feature_size,
        training=asdict(recipe)
        | {f"noise_{k}": v for k, v in asdict(noise).items()}
        | {"minutes": round((time.monotonic() - began) / 60, 1)},
        metrics={part.name: evaluate(network.encoder, network.clip, part).figures() for part in validate},
        data=described(train, "train") + described(validate, "validation"),
        commit=subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip(),
        notes=args.notes,
    )
    write_release(network, release, args.release)
    return release


def described(parts: list[Faces], use: str) -> tuple[DataSet, ...]:
    """Each set once, however often it was drawn from."""
    seen = {part.name: DataSet(name=part.name, use=use, samples=len(part), licence=part.licence, sha256=part.sha256) for part in parts}
    return tuple(seen.values())


def is_grey(faces: Faces) -> bool:
    pixels = faces.faces[:64].unflatten(1, (3, 3))
    return bool((pixels == pixels[:, :, :1]).all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, action="append", required=True, help="crop store to learn from, whole; repeat for more")
    parser.add_argument("--validate", type=Path, action="append", default=[], help="crop store to be measured on")
    parser.add_argument(
        "--split", type=Path, action="append", default=[], help="crop store of known subjects: some to learn from, some held out"
    )
    parser.add_argument("--held-out", type=float, default=0.2, help="share of each split store's subjects that is held out")
    parser.add_argument("--repeat", type=int, default=3, help="times a split store is counted, to weigh it against larger ones")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint and history")
    parser.add_argument("--release", type=Path, required=True, help="folder for weights.safetensors and release.json")
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--notes", default="")
    for field, default in asdict(Recipe()).items():
        parser.add_argument("--" + field.replace("_", "-"), type=type(default), default=default)
    args = parser.parse_args()
    release = train_release(args, Recipe(**{field: getattr(args, field) for field in asdict(Recipe())}), Noise())
    print(json.dumps(release.metrics, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()

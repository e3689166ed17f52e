"""Fitting a network to labelled crops: the loop, and the recipe that decides how it goes."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.errors import MienError
from shared.expressions import LABELS
from training.checkpoint import Run, Stateful
from training.datasets import Faces
from training.evaluate import Report, evaluate
from training.network import ClipClassifier, FrameEncoder
from training.noise import Noise

LARGEST_GRADIENT = 5.0


class TrainingDiverged(MienError):
    """The loss is not a number."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a run goes, beside noise and data; written into the release."""

    width: float = 0.25
    epochs: int = 30
    batch: int = 128
    learning_rate: float = 3e-3
    """Of AdamW at its highest, after the warm-up; from there it falls along half a cosine."""
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    average_decay: float = 0.999
    """Of the exponential moving average of the weights, which is what is evaluated and released."""
    balance: float = 0.5
    """0 draws faces as they come, 1 draws every class equally often; 0.5 weighs by one over the root of the class's size."""
    attention_steps: int = 200
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


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a run ends with."""

    network: Network
    """The averaged weights."""
    history: list[dict[str, float]]
    minutes: float


def fit(train: list[Faces], *, recipe: Recipe, noise: Noise, validate: list[Faces], folder: Path) -> Fitted:
    """Train a network on all of `train`, noting loss and validation figures per epoch.

    A killed run resumes from `folder` after its last finished epoch and ends with the same numbers. Raises RunMismatch
    when the folder holds another run, and TrainingDiverged at the first loss that is not a number.
    """
    run = Run(folder, identity={**asdict(recipe), **asdict(noise), "data": [part.sha256 for part in train]})
    torch.manual_seed(recipe.seed)
    faces, labels = torch.cat([part.faces for part in train]), torch.cat([part.labels for part in train])
    network = Network(width=recipe.width).to(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average_decay), use_buffers=True)
    averaged = cast("Network", average.module)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = math.ceil(len(labels) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_then_cosine(recipe, steps))
    parts: dict[str, Stateful] = {"network": network, "average": average, "optimiser": optimiser, "schedule": schedule}
    for epoch in range(run.resume(parts), recipe.epochs):
        began = time.monotonic()
        torch.manual_seed(recipe.seed * 100_003 + epoch)  # so that an epoch does not depend on who ran the ones before it
        order = torch.multinomial(draw_weights(labels, recipe.balance), len(labels), replacement=True)
        losses = []
        network.train()
        for rows in order.split(recipe.batch):
            losses.append(step(network, noise(faces[rows]), labels[rows], optimiser=optimiser, smoothing=recipe.label_smoothing))
            schedule.step()
            average.update_parameters(network)
        reports = {part.name: evaluate(averaged.encoder, averaged.clip, part) for part in validate}
        line = told(epoch=epoch, loss=sum(losses) / len(losses), seconds=time.monotonic() - began, reports=reports)
        run.finish_epoch(parts, line)
        print(json.dumps(line), flush=True)  # noqa: T201
    return Fitted(network=averaged, history=run.history, minutes=run.minutes)


def step(network: Network, faces: Tensor, labels: Tensor, *, optimiser: torch.optim.Optimizer, smoothing: float) -> float:
    """One update in bfloat16 autocast; returns the loss before it."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(faces.contiguous(memory_format=torch.channels_last))
    loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
    if not torch.isfinite(loss):
        raise TrainingDiverged(f"loss {loss.item()}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
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


def told(*, epoch: int, loss: float, seconds: float, reports: dict[str, Report]) -> dict[str, float]:
    """An epoch as a line of history.jsonl."""
    figures = {f"{name}_{figure}": getattr(report, figure) for name, report in reports.items() for figure in ("accuracy", "macro_f1")}
    return {"epoch": epoch, "loss": round(loss, 4), "seconds": round(seconds, 1), **{name: round(v, 4) for name, v in figures.items()}}

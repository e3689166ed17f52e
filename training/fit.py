"""Fitting one network to clips and their labels, whoever gave them: the loop, and nothing about where lessons come from."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.errors import DataUnusable, TrainingDiverged
from shared.expressions import LABELS
from training.checkpoint import Checkpoint, Stateful
from training.datasets import Clips, joined
from training.evaluate import Report, evaluate
from training.network import Network
from training.noise import Noise
from training.plan import NoiseStrengths, Recipe
from training.processes import Processes

LARGEST_GRADIENT = 5.0
FIGURES = ("accuracy", "macro_f1", "mean_recall")

Line = dict[str, float]
"""One finished epoch, as history.jsonl keeps it."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a fit ends with."""

    network: Network
    """The averaged weights, on the CPU."""
    history: list[Line]
    minutes: float


def fit(
    train: list[Clips],
    *,
    recipe: Recipe,
    noise: NoiseStrengths,
    seed: int,
    validate: list[Clips],
    folder: Path,
    start: Network | None = None,
    processes: Processes = Processes(),  # noqa: B008 -- frozen
    on_epoch: Callable[[Line], None] = lambda _line: None,
) -> Fitted:
    """Train a network on all of `train`, noting loss and validation figures per epoch.

    Targets that are one-hot are smoothed; soft ones are taken as they are. `start` is copied, not changed. A killed fit resumes from
    `folder` after its last finished epoch and ends with the same numbers. Raises RunMismatch when the folder holds another
    one, TrainingDiverged at the first loss that is not a number, and InsufficientStorage.
    """
    check_can_learn(train, recipe, noise, processes)
    checkpoint = Checkpoint(folder, identity=identity(train, recipe, noise, seed, start))
    torch.manual_seed(seed)
    network = Network(recipe.design)
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    processes.synced(network)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average_decay), use_buffers=True)
    averaged = cast("Network", average.module)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    lessons, weights = joined(smoothed(train, recipe.label_smoothing)), draw_weights(train, recipe.balance)
    batch = min(recipe.batch, len(lessons))
    steps = len(lessons) // batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_then_cosine(recipe, steps))
    parts: dict[str, Stateful] = {"network": network, "average": average, "optimiser": optimiser, "schedule": schedule}
    learner = Learner(network, optimiser=optimiser, recipe=recipe, noise=Noise(noise, seed=seed), processes=processes)
    sized, sized_validate = lessons, validate
    for epoch in range(checkpoint.resume(parts), recipe.epochs):
        began = time.monotonic()
        size = size_at(recipe, epoch)
        if sized.size != size:
            sized, sized_validate = lessons.resized(size), [part.resized(size) for part in validate]
        network.train()
        total = 0.0
        for number, rows in enumerate(drawn(weights, seed=seed, epoch=epoch)[: steps * batch].split(batch)):
            total += learner.step(sized, rows, step=epoch * steps + number)
            schedule.step()
            average.update_parameters(network)
        if processes.leads:
            reports = {part.name: evaluate(averaged, part) for part in sized_validate}
            line = history_line(epoch=epoch, size=size, loss=total / steps, seconds=time.monotonic() - began, reports=reports)
            checkpoint.finish_epoch(parts, line)
            on_epoch(line)
    return Fitted(network=averaged.cpu().eval(), history=checkpoint.history, minutes=checkpoint.minutes)


class Learner:
    """Takes one step after another."""

    def __init__(self, network: Network, *, optimiser: torch.optim.Optimizer, recipe: Recipe, noise: Noise, processes: Processes) -> None:
        shared = processes.shared(network)
        self._network = torch.compile(shared) if recipe.compile else shared
        self._parameters = list(network.parameters())
        self._feature_size = network.encoder.feature_size
        self._optimiser = optimiser
        self._recipe = recipe
        self._noise = noise
        self._processes = processes

    def step(self, lessons: Clips, rows: Tensor, *, step: int) -> float:
        """One update from these rows of the lessons; returns the mean loss over them before it, whoever computed which part."""
        groups = list(enumerate(rows.tensor_split(self._noise.groups)))[self._processes.rank :: self._processes.count]
        faces, counts, kept = self._seen(lessons, groups, step=step)
        targets = lessons.targets[torch.cat([own for _, own in groups])].to(faces.device)
        with torch.autocast(faces.device.type, torch.bfloat16, enabled=self._recipe.bfloat16):
            logits: Tensor = self._network(faces.contiguous(memory_format=torch.channels_last), counts, kept)
        precision = torch.promote_types(logits.dtype, torch.float32)
        loss = nn.functional.cross_entropy(logits.to(precision), targets.to(precision), reduction="sum") / len(rows)
        mean = self._processes.total(loss.detach().clone()).item()
        if not math.isfinite(mean):
            raise TrainingDiverged(f"loss {mean} at step {step}")
        self._optimiser.zero_grad(set_to_none=True)
        (loss * self._processes.count).backward()  # since gradients are means over processes, and this loss is a share of a sum
        nn.utils.clip_grad_norm_(self._parameters, LARGEST_GRADIENT)
        self._optimiser.step()
        return mean

    def _seen(self, lessons: Clips, groups: list[tuple[int, Tensor]], *, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """What noise makes of groups of clips: frames (F, 3, S, S), frames per clip (B,), what dropout leaves (B, feature size)."""
        faces, counts, kept = [], [], []
        for group, rows in groups:
            clips = [self._noise.some(lessons.frames_of(row), self._recipe.frames, step=step, group=group) for row in rows.tolist()]
            faces.append(self._noise.faces(torch.cat(clips).to(self._processes.device), step=step, group=group))
            counts += [len(clip) for clip in clips]
            kept.append(self._noise.kept(len(clips), self._feature_size, step=step, group=group))
        device = self._processes.device
        return torch.cat(faces), torch.tensor(counts, device=device), torch.cat(kept).to(device)


def check_can_learn(train: list[Clips], recipe: Recipe, noise: NoiseStrengths, processes: Processes) -> None:
    """Raise DataUnusable where the loop could only fail later."""
    groups, clips = noise.groups_per_batch, sum(len(part) for part in train)
    if groups % processes.count:
        raise DataUnusable(f"{groups} groups of noise per batch cannot be shared by {processes.count} processes")
    if min(recipe.batch, clips) < groups:
        raise DataUnusable(f"a batch of {min(recipe.batch, clips)} clips cannot be cut into {groups} groups of noise")
    for part in train:
        if not bool(part.is_labelled.all()):
            raise DataUnusable(f"{part.name} has clips without a label")


def identity(train: list[Clips], recipe: Recipe, noise: NoiseStrengths, seed: int, start: Network | None) -> dict[str, Any]:
    """Everything that decides how a fit goes."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "noise": noise.model_dump(mode="json"),
        "seed": seed,
        "data": [part.sha256 for part in train],
        "targets": [digest(part.targets) for part in train],
        "start": start and digest(torch.cat([value.flatten().float() for value in start.state_dict().values()])),
    }


def digest(values: Tensor) -> str:
    return hashlib.sha256(values.cpu().contiguous().numpy().tobytes()).hexdigest()


def smoothed(parts: list[Clips], smoothing: float) -> list[Clips]:
    """The parts with one-hot targets softened: what people are sure of is not quite sure. A teacher's opinion stays as it is."""
    return [part if part.pseudo_labeller else part.with_targets(soften(part.targets, smoothing)) for part in parts]


def soften(targets: Tensor, smoothing: float) -> Tensor:
    """The same (N, 7), with what is one-hot spread a little over all labels; a label that a teacher had a say in is soft already."""
    one_hot = targets.amax(dim=1, keepdim=True) == 1
    return torch.where(one_hot, targets * (1 - smoothing) + smoothing / len(LABELS), targets)


def draw_weights(parts: list[Clips], balance: float) -> Tensor:
    """How often to draw each clip, float64 (N,): within a part that people labelled, one over its class's size to the power of `balance`.

    What a teacher labelled was balanced or not on purpose, and is drawn as it comes. Parts keep their shares.
    """
    weights = []
    for part in parts:
        counts = torch.bincount(part.labels, minlength=len(LABELS)).clamp(min=1)
        own = counts.double().pow(0 if part.pseudo_labeller else -balance)[part.labels]
        weights.append(own * len(part) / own.sum())
    return torch.cat(weights)


def drawn(weights: Tensor, *, seed: int, epoch: int) -> Tensor:
    """The rows of one epoch, int64 (N,); they do not depend on who ran the epochs before."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.multinomial(weights, len(weights), replacement=True, generator=generator)


def size_at(recipe: Recipe, epoch: int) -> int:
    """The side of the crops in this epoch."""
    ends = accumulate(stretch.epochs for stretch in recipe.stretches)
    return next(stretch.size for stretch, end in zip(recipe.stretches, ends, strict=True) if epoch < end)


def warmup_then_cosine(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The factor on the learning rate after so many steps: up in a line, down in half a cosine."""
    warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch

    def factor(done: int) -> float:
        if done < warmup:
            return (done + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1.0, total - warmup)))

    return factor


def history_line(*, epoch: int, size: int, loss: float, seconds: float, reports: dict[str, Report]) -> Line:
    """An epoch as a line of history.jsonl."""
    figures = {f"{name}_{figure}": getattr(report, figure) for name, report in reports.items() for figure in FIGURES}
    line = {"epoch": epoch, "size": size, "loss": round(loss, 6), "seconds": round(seconds, 1)}
    return line | {name: round(value, 4) for name, value in figures.items()}

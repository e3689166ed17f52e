"""Pictures per second in training and in evaluation, against the same network written plainly; and what feeding it costs.

Plainly means what one writes first: eager, fp32, NCHW, three equal colours, and noise drawn for every picture by itself.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.expressions import LABELS
from tests.bench.figures import Figure
from training.datasets import Clips
from training.evaluate import scores_of
from training.fit import Learner
from training.network import Network
from training.noise import Noise, transform
from training.plan import Design, NoiseStrengths, Recipe
from training.processes import Processes

BATCH = 128
PICTURES = 1024
STEPS = 4
ROUNDS = 5
SIZE = 64
DESIGN = Design(width=0.25)


class TimedLearner(Learner):
    """Knows how long it waited for its lessons."""

    feeding_s = 0.0

    def _seen(self, lessons: Clips, groups: list[tuple[int, Tensor]], *, step: int) -> tuple[Tensor, Tensor, Tensor]:
        began = time.perf_counter()
        try:
            return super()._seen(lessons, groups, step=step)
        finally:
            self.feeding_s += time.perf_counter() - began


def run(_home: Path, _video: Path) -> list[Figure]:
    """Both ways alternately, a few steps at a time."""
    torch.manual_seed(0)
    clips = random_clips(PICTURES)
    ours, learner = our_way(clips, Recipe(design=DESIGN, batch=BATCH))
    plain = plain_way(clips)
    ours()
    plain()
    fed_before, spent = learner.feeding_s, 0.0
    our_rates, plain_rates = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        our_rates.append(rate(ours, STEPS * BATCH))
        spent += time.perf_counter() - began
        plain_rates.append(rate(plain, STEPS * BATCH))
    training, plainly = statistics.median(our_rates), statistics.median(plain_rates)
    judging, judging_plainly = evaluation_rates(clips)
    share = (learner.feeding_s - fed_before) / spent
    return [
        Figure(bench="training", name=f"training, width {DESIGN.width}, {SIZE} px", value=training, unit="pictures/s"),
        Figure(
            bench="training",
            name="  over the same network written plainly",
            value=training / plainly,
            unit="times",
            aim="> 1",
            reached=training > plainly,
        ),
        Figure(bench="training", name="  share of the time that goes into feeding it, noise included", value=share, unit=""),
        Figure(bench="training", name="evaluation", value=judging, unit="pictures/s"),
        Figure(
            bench="training",
            name="  over the same network written plainly",
            value=judging / judging_plainly,
            unit="times",
            aim="> 1",
            reached=judging > judging_plainly,
        ),
    ]


def our_way(clips: Clips, recipe: Recipe) -> tuple[Callable[[], None], TimedLearner]:
    network = Network(recipe.design).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters())
    learner = TimedLearner(network, optimiser=optimiser, recipe=recipe, noise=Noise(NoiseStrengths(), seed=1), processes=Processes())

    def steps() -> None:
        network.train()
        for step, rows in enumerate(torch.arange(STEPS * recipe.batch).split(recipe.batch)):
            learner.step(clips, rows, step=step)

    return steps, learner


def plain_way(clips: Clips) -> Callable[[], None]:
    network = Network(DESIGN)
    optimiser = torch.optim.AdamW(network.parameters())
    colours, targets = as_colours(clips), clips.targets
    noise, dropout = transform(NoiseStrengths()), nn.Dropout(0.5)

    def steps() -> None:
        network.train()
        for rows in torch.arange(STEPS * BATCH).split(BATCH):
            faces = torch.stack([noise(colours[row].unflatten(0, (3, 3))).flatten(0, 1) for row in rows.tolist()])
            features, _, _ = network.encoder(faces)
            loss = nn.functional.cross_entropy(network.clip.output(dropout(features)), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return steps


def evaluation_rates(clips: Clips) -> tuple[float, float]:
    """Pictures per second: ours, and plainly."""
    ours, plain, colours = Network(DESIGN).to(memory_format=torch.channels_last), Network(DESIGN).eval(), as_colours(clips)  # type: ignore[call-overload]
    ones = torch.ones(BATCH, dtype=torch.int64)

    @torch.inference_mode()
    def plainly() -> None:
        for group in colours.split(BATCH):
            plain(group, ones)

    ways: tuple[Callable[[], object], Callable[[], object]] = (lambda: scores_of(ours, clips), plainly)
    for way in ways:
        way()
    rates = [[rate(way, PICTURES) for way in ways] for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    return mine, theirs


def rate(way: Callable[[], object], pictures: int) -> float:
    began = time.perf_counter()
    way()
    return pictures / (time.perf_counter() - began)


def as_colours(clips: Clips) -> Tensor:
    """uint8 (N, 9, S, S): luma as three equal colours, which is what a plain network is fed."""
    return clips.frames.repeat_interleave(3, dim=1)


def random_clips(count: int, *, size: int = SIZE) -> Clips:
    labels = torch.arange(count) % len(LABELS)
    names = tuple(str(row) for row in range(count))
    return Clips(
        name="random",
        licence="CC0",
        sha256="0" * 64,
        frames=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8),
        first=torch.arange(count),
        count=torch.ones(count, dtype=torch.int64),
        targets=nn.functional.one_hot(labels, len(LABELS)).float(),
        subjects=names,
        sources=names,
        licences=names,
    )

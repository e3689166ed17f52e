"""Networks that are fitted only to be compared: each in a folder of its own, named by all that decides how it comes out.

    <cells>/
      <identity>/            16 hex digits
        checkpoint.pt history.jsonl    while it is fitted, see training.checkpoint
        weights.safetensors            the network
        cell.json                      the Cell, written last: with it the cell counts

A killed run goes on from its last epoch, and what two tables have in common is fitted once.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from shared.errors import RunMismatch
from shared.jobs import Contract
from shared.releases import WEIGHTS
from shared.videos import storage_errors, write_durably
from training.bootstrap import pooled
from training.candidate import described_commit, described_hardware
from training.datasets import Clips
from training.evaluate import evaluate
from training.finish import finish, has_clips
from training.fit import digest, fit
from training.network import Network
from training.plan import NoiseStrengths, PseudoLabelling, Recipe
from training.processes import Processes
from training.pseudo_labels import lessons_of, opinion, softened
from training.record import Measured
from training.weights import read_network, write_weights

CELL: Final = "cell.json"
CHECKPOINT: Final = "checkpoint.pt"


class Cell(Contract):
    """A fitted network's marks on everything that it was measured on, taken together."""

    about: JsonValue
    """What was fitted to what, in full."""
    parameters: int
    taught: int
    """Clips with a teacher's label that it learnt from, repeats counted."""
    measured: Measured
    minutes: float
    commit: str
    """Of the code that fitted it."""
    hardware: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A network to fit, and what to measure it on."""

    labelled: list[Clips]
    measured: list[Clips]
    recipe: Recipe
    noise: NoiseStrengths
    seed: int
    teaching: "Teaching | None" = None
    """What it learns beside people's labels."""

    def about(self) -> dict[str, JsonValue]:
        """Everything that decides how it comes out, as JSON."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "noise": self.noise.model_dump(mode="json"),
            "seed": self.seed,
            "labelled": [named(part) for part in self.labelled],
            "measured": [named(part) for part in self.measured],
            "teaching": self.teaching.about() if self.teaching else None,
        }

    @property
    def identity(self) -> str:
        return hashlib.sha256(json.dumps(self.about(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Side of the crops that the network reads in the end, in pixels: those it is measured on."""
        return self.recipe.stretches[-1].size


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """An earlier network's opinion of unlabelled clips."""

    teacher: Experiment
    unlabelled: Clips
    wanted: PseudoLabelling

    def about(self) -> dict[str, JsonValue]:
        wanted = self.wanted.model_dump(mode="json")
        return {"teacher": self.teacher.about(), "unlabelled": named(self.unlabelled), "wanted": wanted}


class Cells:
    """A folder of cells. Every call may raise TrainingError kinds and StorageError."""

    def __init__(self, folder: Path, *, processes: Processes) -> None:
        self._folder = folder
        self._processes = processes

    @property
    def leads(self) -> bool:
        """Whether this process is the one that talks."""
        return self._processes.leads

    def cell(self, experiment: Experiment) -> Cell:
        """The experiment's marks, from the disk where it was done before."""
        path = self._folder / experiment.identity / CELL
        if not path.exists():
            self._do(experiment)
        try:
            return Cell.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RunMismatch(f"{path} is not a cell of this version: {error}") from error

    def network(self, experiment: Experiment) -> Network:
        """The fitted network."""
        self.cell(experiment)
        return read_network(self._folder / experiment.identity / WEIGHTS, experiment.recipe.design)

    def _do(self, experiment: Experiment) -> None:
        folder = self._folder / experiment.identity
        lessons, teacher = self._lessons(experiment)
        start = teacher if teacher and experiment.recipe.from_teacher and experiment.recipe.design == teacher.design else None
        fitted = fit(
            lessons,
            recipe=experiment.recipe,
            noise=experiment.noise,
            seed=experiment.seed,
            validate=[],
            folder=folder,
            start=start,
            processes=self._processes,
        )
        attention_steps = experiment.recipe.attention_steps if has_clips(experiment.measured) else 0
        labelled = [part.resized(experiment.size) for part in experiment.labelled]
        finish(fitted.network, lessons=lessons, labelled=labelled, attention_steps=attention_steps, seed=experiment.seed)
        if self._processes.leads:
            write_weights(fitted.network, folder)
            taught = sum(len(part) for part in lessons) - sum(len(part) for part in experiment.labelled)
            self._write(folder, self._marks(experiment, fitted.network, taught=taught, minutes=fitted.minutes))
        self._processes.wait()

    def _lessons(self, experiment: Experiment) -> tuple[list[Clips], Network | None]:
        """What to learn from, and who taught it."""
        teaching = experiment.teaching
        if teaching is None:
            return experiment.labelled, None
        teacher = self.network(teaching.teacher)
        asked = partial(opinion, teacher, size=teaching.teacher.size, processes=self._processes)
        share = teaching.wanted.soften_labels
        labelled = [softened(part, asked(part), share) if share else part for part in experiment.labelled]
        return [*labelled, lessons_of(asked(teaching.unlabelled), teaching.unlabelled, teaching.wanted).balanced], teacher

    def _marks(self, experiment: Experiment, network: Network, *, taught: int, minutes: float) -> Cell:
        report = pooled([evaluate(network, part.resized(experiment.size)) for part in experiment.measured])
        return Cell(
            about=experiment.about(),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            taught=taught,
            measured=report.measured(),
            minutes=round(minutes, 1),
            commit=described_commit(),
            hardware=described_hardware(self._processes.device, self._processes.count),
        )

    def _write(self, folder: Path, cell: Cell) -> None:
        """The cell counts from here on, and what it took to get there can go: it is several times as large as the network."""
        with storage_errors():
            write_durably(folder / CELL, cell.model_dump_json(indent=1).encode() + b"\n")
            (folder / CHECKPOINT).unlink(missing_ok=True)


def named(clips: Clips) -> dict[str, JsonValue]:
    """Which clips these are: the store, the rows of it, and what they are labelled."""
    return {"name": clips.name, "store": clips.sha256, "rows": digest(clips.first), "labels": digest(clips.targets)}

"""The training runs there are: what was asked for, how each one is doing, and what it has learnt so far.

A run's folder belongs to two: `training.ledger` writes where it is, `training.rounds` writes everything that
`training.record` lists. Nothing here trains, so that a service can read and change runs without torch.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import Field, ValidationError

from shared.errors import RunConflict, RunMismatch, RunNotFound, StorageError
from shared.jobs import Contract, JobState
from shared.videos import storage_errors
from training.ledger import Entry, Ledger
from training.plan import Plan
from training.record import CANDIDATE, RECORD, Record, read_record
from training.repository import Repository

HISTORY: Final = "history.jsonl"
ROUND: Final = re.compile(r"round-(\d+)")


class Run(Entry):
    """One training run."""

    ID: ClassVar = re.compile(r"tr_[0-9a-f]{32}")
    NOT_FOUND: ClassVar = RunNotFound
    CONFLICT: ClassVar = RunConflict

    plan: Plan
    """What was asked for. Stores are named as they were: relative to the folder of crop stores."""
    version: Annotated[int, Field(ge=1)] = 1
    """The release that its candidate can become: the plan's, or else one above all that were published or promised when it was accepted."""


class Progress(Contract):
    """How far a run has come."""

    round: Annotated[int, Field(ge=0)]
    """The round that is being worked on; 0 is the first teacher."""
    rounds: Annotated[int, Field(ge=0)]
    """The last round that the plan allows; a run stops at the first student that is no better."""
    epoch: Annotated[int, Field(ge=0)]
    """Finished epochs of this round."""
    epochs: Annotated[int, Field(ge=0)]
    """All epochs of this round; 0 where the plan brings its first teacher along."""
    latest: dict[str, float]
    """What the last finished epoch was measured at, loss and seconds included."""


class RunSummary(Run):
    """A run and how far it has come."""

    progress: Progress
    """How far it has come."""


class RunStatus(RunSummary):
    """Everything that is known about a run."""

    record: Record | None
    """The rounds so far; null before the first has ended."""


class Epoch(Contract):
    """One finished epoch."""

    round: int
    epoch: int
    """Counted from 1 in each round."""
    figures: dict[str, float]
    """Its line of the round's `history.jsonl`."""


class Runs(Ledger[Run]):
    """The folder of runs."""

    def __init__(self, folder: Path, *, models: Path, most_deaths: int = 3) -> None:
        """`models` is the model repository; it is only asked which versions there are."""
        super().__init__(folder, kind=Run, reached=epochs_done, most_deaths=most_deaths)
        self._repository = Repository(models)

    def completed(self, entry: Run) -> Run:
        taken = max(self._repository.highest(), *(run.version for run in self.all()), 0)
        return super().completed(entry.model_copy(update={"version": entry.plan.version or taken + 1}))

    def accept(self, plan: Plan, *, run_id: str | None = None) -> Run:
        """Promise a run of this plan. The same id and plan again are the same run; with another plan it raises RunMismatch."""
        run = self.create(Run(id=run_id or f"tr_{secrets.token_hex(16)}", plan=plan))
        if run.plan != plan:
            raise RunMismatch("it was given for another plan")
        return run

    def summary(self, run: Run) -> RunSummary:
        return RunSummary(**dict(run), progress=progress(run, self.folder(run.id), self.record(run.id)))

    def status(self, run_id: str) -> RunStatus:
        """Raises RunNotFound."""
        run, record = self.get(run_id), self.record(run_id)
        return RunStatus(**dict(run), progress=progress(run, self.folder(run_id), record), record=record)

    def record(self, run_id: str) -> Record | None:
        """The run's record so far; None before there is one."""
        if not (self.folder(run_id) / RECORD).exists():
            return None
        try:
            return read_record(self.folder(run_id))
        except (OSError, ValidationError) as error:
            raise StorageError(f"{run_id}/{RECORD}: {error}") from error

    def epochs(self, run_id: str) -> list[Epoch]:
        """Every finished epoch of every round, in order."""
        return list(epochs(self.folder(run_id)))

    def candidate(self, run_id: str) -> Path:
        """The folder of the network that the run came to. Raises RunNotFound, and RunConflict unless it succeeded and left one."""
        run = self.get(run_id)
        if run.state is not JobState.SUCCEEDED:
            raise RunConflict(f"state: {run.state}", state=run.state)
        folder = self.folder(run_id) / CANDIDATE
        if not folder.is_dir():
            raise RunConflict("it left no candidate: no student beat the teacher that it began with", state=run.state)
        return folder


def id_of_plan(plan: Plan) -> str:
    """The id under which the command line keeps the run of this plan: the same command goes on with the same run.

    Processes that start together under `torchrun` agree on it without a word.
    """
    return id_of_text(plan.model_dump_json())


def id_of_text(text: str) -> str:
    return f"tr_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def progress(run: Run, folder: Path, record: Record | None) -> Progress:
    number = current_round(run, record)
    lines = read_history(folder / f"round-{number}")
    return Progress(
        round=number,
        rounds=run.plan.rounds,
        epoch=len(lines),
        epochs=epochs_of_round(run.plan, number),
        latest=lines[-1] if lines else {},
    )


def current_round(run: Run, record: Record | None) -> int:
    """The round after the last one that has ended, unless that was the last one of all."""
    ended = [each.number for each in record.rounds] if record else []
    following = max(ended, default=-1) + 1
    return following - 1 if ended and (run.state is JobState.SUCCEEDED or following > run.plan.rounds) else following


def epochs_of_round(plan: Plan, number: int) -> int:
    if number == 0:
        return plan.teacher_recipe.epochs if plan.teacher is None else 0
    return plan.student_recipes[min(number, len(plan.student_recipes)) - 1].epochs


def epochs_done(folder: Path) -> int:
    return sum(1 for _ in epochs(folder))


def epochs(folder: Path) -> Iterator[Epoch]:
    """Every finished epoch of the run in `folder`."""
    with storage_errors():
        numbers = sorted(int(match[1]) for path in folder.glob("round-*") if (match := ROUND.fullmatch(path.name)))
    for number in numbers:
        for place, figures in enumerate(read_history(folder / f"round-{number}"), start=1):
            yield Epoch(round=number, epoch=place, figures=figures)


def read_history(folder: Path) -> list[dict[str, float]]:
    """The finished epochs of one round. A line that is just being written is not one yet."""
    with storage_errors():
        try:
            text = (folder / HISTORY).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
    try:
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    except ValueError as error:
        raise StorageError(f"{folder.name}/{HISTORY}: {error}") from error

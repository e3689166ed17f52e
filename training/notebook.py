"""Writes down what a run does, as `training.record` lays it out: for people, for the service, and for the run itself when it resumes."""

from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from shared.errors import RunMismatch
from shared.videos import storage_errors, write_durably
from training import report
from training.plan import Plan
from training.pseudo_labels import Lessons, for_people
from training.record import CURVES, PLAN, PSEUDO_LABELS, RECORD, REPORT, ROUND, Record, Round, read_record
from training.tracker import Tracker


class Notebook:
    """One run's folder. Of several processes only the one that leads writes.

    Every call that writes raises StorageError where the disk does not take it.
    """

    def __init__(self, folder: Path, plan: Plan, *, leads: bool) -> None:
        """Raises RunMismatch when the folder holds a run of another plan."""
        self._folder = folder
        self._plan = plan
        self._leads = leads
        self.record = Record(name=plan.name)
        if leads:
            keep_plan(folder, plan)
            if (folder / RECORD).exists():  # what was told stays told while a resumed run goes over it again
                self.record = read_record(folder)
        self._tracker = Tracker(folder / CURVES, confidence=plan.confidence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tracker.close()

    def of_round(self, number: int) -> Path:
        """The folder of a round."""
        return self._folder / f"round-{number}"

    def done(self, number: int) -> Round | None:
        """A round that an earlier process finished."""
        path = self.of_round(number) / ROUND
        return Round.model_validate_json(path.read_bytes()) if path.exists() else None

    def epoch(self, number: int, line: dict[str, float]) -> None:
        if self._leads:
            self._tracker.epoch(number, line)

    def taught(self, number: int, lessons: Lessons, *, teacher: str) -> None:
        """Keep what a student learns from beside people's labels."""
        if self._leads:
            lines = (label.model_dump_json() + "\n" for label in for_people(lessons.balanced, pseudo_labeller=teacher))
            self._write(self.of_round(number) / PSEUDO_LABELS, "".join(lines))

    def finished(self, one: Round) -> None:
        """The round counts from here on."""
        if one not in self.record.rounds:
            earlier = [each for each in self.record.rounds if each.number < one.number]
            champion = one.number if one.became_champion else self.record.champion
            self.record = self.record.model_copy(update={"rounds": (*earlier, one), "champion": champion})
        if self._leads:
            self._write(self.of_round(one.number) / ROUND, one.model_dump_json(indent=1) + "\n")
            self._tracker.round(one)
            self._write_record()

    def closed(self, why: str) -> None:
        """The run is over."""
        self.record = self.record.model_copy(update={"finished": True, "why": why})
        if self._leads:
            self._write_record()

    def _write_record(self) -> None:
        self._write(self._folder / RECORD, self.record.model_dump_json(indent=1) + "\n")
        self._write(self._folder / REPORT, report.render(self.record, self._plan))

    def _write(self, path: Path, text: str) -> None:
        with storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, text.encode())


def keep_plan(folder: Path, plan: Plan) -> None:
    """Write `plan.json`, or check that it is this one."""
    path = folder / PLAN
    if path.exists():
        try:
            kept = Plan.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RunMismatch(f"{path} is not a plan: {error}") from error
        if kept != plan:
            raise RunMismatch(f"{folder} holds a run of another plan")
        return
    with storage_errors():
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, plan.model_dump_json(indent=1).encode() + b"\n")

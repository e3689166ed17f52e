"""What has happened to a run since somebody last looked: for those who watch it live, over HTTP or at a command line."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from training.runs import Epoch, Runs, RunStatus

LOOK_EVERY_S: Final = 0.5
"""The run is another process; looking at its files costs less than an epoch's thousandth."""


class Place(NamedTuple):
    """How much of a run somebody has seen."""

    revision: int = -1
    """Of its record in the ledger."""
    rounds: int = 0
    """That have ended."""
    round: int = -1
    epoch: int = 0
    """The last epoch, counted from 1, of that round."""

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "Place":
        """The inverse of `str`; the beginning for anything else."""
        return cls(*map(int, text.split("."))) if re.fullmatch(r"-?\d{1,9}(\.-?\d{1,9}){3}", text) else cls()


class News(NamedTuple):
    """One thing that has happened, and the place after it."""

    place: Place
    what: RunStatus | Epoch


def since(runs: Runs, run_id: str, place: Place) -> Iterator[News]:
    """Everything after `place`. A newcomer is told how the run is, and then every epoch; afterwards the epochs come first, so that
    the last news of a run that has ended is its end. Who asks once more after seeing a final state has heard everything.

    Raises RunNotFound.
    """
    status = runs.status(run_id)
    newcomer = place == Place()
    if newcomer:
        place = place_of(status, place)
        yield News(place, status)
    for epoch in runs.epochs(run_id):
        if (epoch.round, epoch.epoch) > (place.round, place.epoch):
            place = place._replace(round=epoch.round, epoch=epoch.epoch)
            yield News(place, epoch)
    if not newcomer and place_of(status, place) != place:
        yield News(place_of(status, place), status)


def place_of(status: RunStatus, place: Place) -> Place:
    return place._replace(revision=status.revision, rounds=len(status.record.rounds) if status.record else 0)

"""What a run leaves for people: `record.json`, written anew after every round.

<run>/
  plan.json             the Plan
  record.json           the Record so far; `report.md` says the same for people
  curves/               event files for TensorBoard
  round-0/              the first teacher; round-1/, round-2/ ... its students
    checkpoint.pt history.jsonl      while it is fitted, see training.checkpoint
    labels.jsonl                     one PseudoLabel a line: what the student learnt from beside people's labels
    weights.safetensors              the network, in the half precision that it would be released in
    round.json                       the Round, written last: with it the round counts
  candidate/            the best network, ready to be published
"""

from pathlib import Path
from typing import Final

from pydantic import Field

from shared.jobs import Contract

PLAN: Final = "plan.json"
RECORD: Final = "record.json"
REPORT: Final = "report.md"
CURVES: Final = "curves"
ROUND: Final = "round.json"
PSEUDO_LABELS: Final = "labels.jsonl"
CANDIDATE: Final = "candidate"


class PseudoLabel(Contract):
    """What a student was taught about one unlabelled clip, and by whom."""

    source: str
    subject: str
    licence: str
    scores: tuple[float, ...]
    """In the order of LABELS."""
    pseudo_labeller: str
    times: int
    """How often balancing repeats it."""


class Measured(Contract):
    """One network on one labelled set."""

    samples: int
    """Clips."""
    accuracy: float
    """Share of clips whose likeliest label is right."""
    macro_f1: float
    """Mean of the labels' F1."""
    mean_recall: float
    """Mean of the labels' recall, so that small ones count as much."""
    calibration_error: float
    """Expected calibration error over 15 bins (Guo et al., arXiv 1706.04599)."""
    recall: dict[str, float]
    """Per label that the set holds."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows are truth and columns verdicts, in the order of LABELS."""


class Gain(Contract):
    """How much better the student is than the champion on everything that is measured on, with a paired bootstrap interval."""

    macro_f1: float
    """The student's less the champion's."""
    low: float
    """Lower end of the interval around the gain in macro-F1; above zero, the student has won."""
    high: float
    """Its upper end."""
    accuracy: float
    """The student's less the champion's."""


class Round(Contract):
    """One network, from its lessons to its marks."""

    number: int
    """0 is the first teacher."""
    teacher: str | None = None
    """Who gave the pseudo labels: `round-0`, or a release's name."""
    parameters: int = 0
    """Numbers that the network consists of."""
    unlabelled: int = 0
    """Clips that the teacher looked at."""
    confident: dict[str, int] = Field(default={})
    """Of these, per label, the ones above the threshold: before balancing."""
    balanced: dict[str, int] = Field(default={})
    """What the student was given, repeats counted: after balancing."""
    measured: dict[str, Measured]
    """By the name of the set."""
    gain: Gain | None = None
    """Null for the first teacher."""
    became_champion: bool
    """Whether it is the best network so far, and so the next teacher."""
    why: str
    """In one sentence."""
    minutes: float
    """Wall-clock, over every process that worked on it."""


class Record(Contract):
    """A run so far."""

    name: str
    """The plan's."""
    rounds: tuple[Round, ...] = ()
    """That have ended, in order."""
    champion: int | None = None
    """Number of the best round so far; null while the first one is fitted, or while a teacher from outside is unbeaten."""
    finished: bool = False
    """Whether there is nothing left to do."""
    why: str = ""
    """Why it stopped, once it has."""


def read_record(folder: Path) -> Record:
    return Record.model_validate_json((folder / RECORD).read_bytes())

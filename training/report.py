"""report.md: what a run did, round by round, for people. Everything in it is in `record.json` and `plan.json`."""

from collections.abc import Iterator
from typing import Final

from shared.expressions import LABELS
from training import in_words
from training.markdown import figures_table, percent, points
from training.plan import Plan
from training.record import Gain, Measured, Record, Round

FIGURES: Final = ("samples", "accuracy", "macro-F1", "mean recall", "calibration error")


def render(record: Record, plan: Plan) -> str:
    """The whole report as Markdown."""
    rounds = (f"## {_title(one)}\n\n{round_report(one, confidence=plan.confidence)}" for one in record.rounds)
    parts = (f"# Run {record.name}", _outcome(record), "## Plan", in_words.plan(plan), *_sets(record), *rounds)
    return "\n\n".join(part for part in parts if part) + "\n"


def round_report(one: Round, *, confidence: float) -> str:
    """One round, without a title: the verdict first, then what it rests on. confidence: of the interval around the gain."""
    return "\n\n".join((verdict(one, confidence=confidence), *_lessons(one), *_marks(one)))


def verdict(one: Round, *, confidence: float) -> str:
    """Whether the student beat its teacher, by how much, and why that was or was not enough."""
    if one.gain is None:
        return one.why
    beat = "The student beat its teacher." if one.became_champion else "The student did not beat its teacher."
    return f"**{beat}** {_gain(one.gain, confidence=confidence)} {one.why}"


def lessons_table(one: Round) -> str:
    """What the student was given of what its teacher labelled, before and after balancing."""
    rows = [(label, f"{one.confident.get(label, 0):,}", f"{one.balanced.get(label, 0):,}") for label in LABELS]
    total = ("all", f"{sum(one.confident.values()):,}", f"{sum(one.balanced.values()):,}")
    return figures_table(("expression", "confident, before balancing", "learnt from, after balancing"), [*rows, total])


def confusion_table(measured: Measured) -> str:
    """Rows are truth, columns verdicts."""
    rows = [(label, *(f"{count:,}" for count in counts)) for label, counts in zip(LABELS, measured.confusion, strict=True)]
    return figures_table(("truth \\ verdict", *LABELS), rows)


def _outcome(record: Record) -> str:
    if record.champion is not None:
        best = f"The best network is round {record.champion}'s."
    else:
        best = "No network of this run is better than the one it began with." if record.rounds else "No network is finished yet."
    state = f"The run is finished: {record.why}" if record.finished else "The run is not finished."
    return f"{best} {state}"


def _title(one: Round) -> str:
    return "Round 0: the first teacher" if one.number == 0 else f"Round {one.number}: a student of {one.teacher}"


def _gain(gain: Gain, *, confidence: float) -> str:
    interval = f"{points(gain.low)} to {points(gain.high)} with {percent(confidence)} confidence"
    return f"Its gain in macro-F1 is {points(gain.macro_f1)} points ({interval}), in accuracy {points(gain.accuracy)}."


def _sets(record: Record) -> Iterator[str]:
    """Per set that was measured on, every round in a row."""
    for name in dict.fromkeys(name for one in record.rounds for name in one.measured):
        rows = [(str(one.number), *_figures(one.measured[name])) for one in record.rounds if name in one.measured]
        yield f"## On {name}\n\n{figures_table(('round', *FIGURES), rows)}"


def _figures(measured: Measured) -> tuple[str, ...]:
    shares = (measured.accuracy, measured.macro_f1, measured.mean_recall, measured.calibration_error)
    return f"{measured.samples:,}", *map(percent, shares)


def _lessons(one: Round) -> Iterator[str]:
    size = f"{one.parameters:,} parameters" + (f", fitted in {one.minutes:.1f} minutes." if one.minutes else ".")
    if not one.unlabelled:
        yield size
        return
    yield f"{size} {one.teacher} labelled {one.unlabelled:,} clips and was sure of {sum(one.confident.values()):,}."
    yield lessons_table(one)


def _marks(one: Round) -> Iterator[str]:
    """Recall per class over all sets, then one confusion matrix per set."""
    rows = [(label, *(_recall(measured, label) for measured in one.measured.values())) for label in LABELS]
    yield figures_table(("recall", *one.measured), rows)
    for name, measured in one.measured.items():
        yield f"Confusion on {name}, rows are truth and columns verdicts:\n\n{confusion_table(measured)}"


def _recall(measured: Measured, label: str) -> str:
    return percent(measured.recall[label]) if label in measured.recall else "-"

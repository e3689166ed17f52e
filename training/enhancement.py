"""Stores that were harvested twice, with dark pictures brightened and without: what the paper's row "without enhancement" compares."""

from pathlib import Path

from shared.crops import SAMPLES, Store
from shared.errors import PlanImpossible
from shared.jobs import Enhance
from training.datasets import read_labels, read_store


def check_pair(enhanced: Path, plain: Path) -> None:
    """Raise PlanImpossible unless the two stores differ in enhancement alone: same cropping, same people. Clips may differ, since a face
    may be found in one and not in the other. Raises DataUnusable for what is no store.
    """
    ours, theirs = read_store(enhanced), read_store(plain)
    if ours.enhance is Enhance.NEVER or theirs.enhance is not Enhance.NEVER:
        how = f"{said(enhanced, ours)}, {said(plain, theirs)}"
        raise PlanImpossible(f"one store has to be enhanced and the other one not: {how}")
    if ours.size != theirs.size:
        raise PlanImpossible(f"{enhanced.name} is cropped at {ours.size} pixels, {plain.name} at {theirs.size}")
    if strangers := sorted(people(enhanced) ^ people(plain)):
        raise PlanImpossible(f"{len(strangers)} subjects are in {enhanced.name} or in {plain.name} only, such as {strangers[0]}")


def said(folder: Path, store: Store) -> str:
    return f"{folder.name} was harvested with --enhance {store.enhance}"


def people(folder: Path) -> set[str]:
    """The subjects who may be learnt from."""
    return {sample.subject for sample in read_labels(folder / SAMPLES) if sample.consent}

"""Subject-independent k folds, as CK+ is measured: everybody is tested once, by a network that never saw them."""

from collections.abc import Iterator

from shared.errors import ClassMissing, DataUnusable, SubjectsLeak
from shared.expressions import LABELS
from training.datasets import Clips
from training.fit import digest


def folds(clips: Clips, k: int) -> Iterator[tuple[Clips, Clips]]:
    """Yield (train, test) k times. Subjects are taken in the order of their names, every k-th into the same fold, so the same
    people are always tested together.

    Raises before the first fold: DataUnusable where there are not k subjects, ClassMissing where a fold would be tested on an
    expression that only its own people show, SubjectsLeak where the same frames are there under two subjects of two folds.
    """
    fold_of = _fold_of_subject(clips, k)
    rows = [[row for row, subject in enumerate(clips.subjects) if fold_of[subject] == fold] for fold in range(k)]
    _check_apart(clips, fold_of)
    _check_classes(clips, rows)
    return ((_without(clips, test), clips.part(test)) for test in rows)


def _fold_of_subject(clips: Clips, k: int) -> dict[str, int]:
    subjects = sorted(set(clips.subjects))
    if not 2 <= k <= len(subjects):
        raise DataUnusable(f"{clips.name} has {len(subjects)} subjects, which cannot make {k} folds")
    return {subject: place % k for place, subject in enumerate(subjects)}


def _without(clips: Clips, rows: list[int]) -> Clips:
    taken = set(rows)
    return clips.part([row for row in range(len(clips)) if row not in taken])


def _check_apart(clips: Clips, fold_of: dict[str, int]) -> None:
    """The same frames under two names would be learnt from and tested on."""
    seen: dict[str, str] = {}
    for row, subject in enumerate(clips.subjects):
        other = seen.setdefault(digest(clips.frames_of(row)), subject)
        if fold_of[other] != fold_of[subject]:
            raise SubjectsLeak(f"{clips.sources[row]} of {clips.name} shows {subject}, and the same frames are there as {other}")


def _check_classes(clips: Clips, rows: list[list[int]]) -> None:
    labels = clips.labels.tolist()
    for fold, test in enumerate(rows):
        tested = {labels[row] for row in test}
        learnt = {labels[row] for other in rows if other is not test for row in other}
        if lost := sorted(LABELS[label] for label in tested - learnt):
            raise ClassMissing(f"fold {fold + 1} of {clips.name} has every sample of {', '.join(lost)}, so none is left to learn from")

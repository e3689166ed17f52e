"""From a teacher's opinion of unlabelled clips to lessons for its student: confident, then balanced (arXiv 1911.04252)."""

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import TeacherUnsure
from shared.expressions import LABELS
from training.datasets import Clips
from training.evaluate import scores_of
from training.network import Network
from training.plan import PseudoLabelling
from training.processes import Processes
from training.record import PseudoLabel


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What one teacher's opinion comes to."""

    unlabelled: int
    """Clips that it looked at."""
    confident: Clips
    balanced: Clips


def opinion(teacher: Network, clips: Clips, *, size: int, processes: Processes) -> Tensor:
    """What a teacher that reads crops of `size` makes of clips, without noise: scores float32 (N, 7), the same in every process."""
    return processes.agreed(lambda: scores_of(teacher, clips.resized(size)))


def lessons_of(scores: Tensor, unlabelled: Clips, wanted: PseudoLabelling) -> Lessons:
    """From a teacher's scores (N, 7) of clips to lessons: keep what it is sure of; even the classes out, if wanted.

    May raise TeacherUnsure.
    """
    sure = confident(unlabelled, scores, threshold=wanted.threshold)
    even = balanced(sure, per_class=wanted.per_class, most_repeats=wanted.most_repeats) if wanted.balanced else sure
    return Lessons(unlabelled=len(unlabelled), confident=sure, balanced=even)


def softened(labelled: Clips, scores: Tensor, share: float) -> Clips:
    """What people labelled, with a share of the teacher's scores (N, 7) in it."""
    return labelled.with_targets((1 - share) * labelled.targets + share * scores)


def confident(clips: Clips, scores: Tensor, *, threshold: float) -> Clips:
    """The clips whose likeliest label scores at least the threshold, with the scores (N, 7) as their soft labels.

    Raises TeacherUnsure when there is none.
    """
    rows = torch.nonzero(scores.amax(dim=1) >= threshold).flatten()
    if len(rows) == 0:
        raise TeacherUnsure(f"the teacher is sure of none of the {len(clips)} clips of {clips.name}: no score reaches {threshold}")
    return clips.with_targets(scores).part(rows)


def balanced(clips: Clips, *, per_class: int | None, most_repeats: int) -> Clips:
    """The same number of clips of every class, as near as may be: the surest of large ones, and small ones repeated.

    per_class: clips per class; the mean size of the classes that have any by default. No clip is there more than `most_repeats` times.
    """
    surest_first = clips.targets.amax(dim=1).argsort(descending=True, stable=True)
    labels = clips.labels[surest_first]
    classes = [surest_first[labels == label] for label in range(len(LABELS))]
    goal = per_class or math.ceil(len(clips) / sum(len(rows) > 0 for rows in classes))
    return clips.part(torch.cat([filled(rows, goal, most_repeats) for rows in classes]))


def filled(rows: Tensor, goal: int, most_repeats: int) -> Tensor:
    """Rows cut off or repeated, the first ones first, until there are `goal`."""
    if len(rows) == 0:
        return rows
    times = min(math.ceil(goal / len(rows)), most_repeats)
    return rows.repeat(times)[:goal]


def histogram(clips: Clips) -> dict[str, int]:
    """Clips per label; a clip that is there twice counts twice."""
    counts = torch.bincount(clips.labels, minlength=len(LABELS)).tolist()
    return dict(zip(LABELS, counts, strict=True))


def for_people(clips: Clips, *, pseudo_labeller: str) -> list[PseudoLabel]:
    """What the student is taught, for people to read: each clip once."""
    times = Counter(clips.first.tolist())
    rows = {first: row for row, first in enumerate(clips.first.tolist())}
    return [
        PseudoLabel(
            source=clips.sources[row],
            subject=clips.subjects[row],
            licence=clips.licences[row],
            scores=tuple(round(score, 4) for score in clips.targets[row].tolist()),
            pseudo_labeller=pseudo_labeller,
            times=times[first],
        )
        for first, row in rows.items()
    ]

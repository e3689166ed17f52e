"""Whether a candidate is good enough to judge people's videos: measured beside the champion, on data that it has not learnt from.

Both see the same clips, so what counts is where they differ. On all frozen sets together the candidate has to be shown not to
be worse than the champion by more than a named margin; a set too small to show that lets nothing pass. On no set by itself may it be
shown to be worse. Of a set that the candidate learnt from in part, only the people count whom its release says were held out.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from time import perf_counter
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import CandidateWorse
from shared.jobs import Contract
from shared.releases import Release
from training.bootstrap import gain, pooled
from training.datasets import Clips, split_by_subject
from training.evaluate import Report, evaluate
from training.graphs import examples, traced
from training.network import Network
from training.repository import Check

Share = Annotated[float, Field(ge=0, le=1)]

LESSONS = ("train", "unlabelled")
LATENCY_BATCH = 16
LATENCY_ROUNDS = 15


class Gate(Contract):
    """How good is good enough."""

    accuracy_floor: Share = 0.35
    """Whatever the champion does. Guessing gives 0.14 of seven equally large classes; always saying the largest gives 0.25 on FER2013."""
    macro_f1_floor: Share = 0.3
    recall_floor: Share = 0.1
    """Of the worst class."""
    accuracy_loss: Share = 0.02
    """The champion's accuracy less this has to lie below the interval of the candidate's. An equal network of which a fifth of the
    verdicts differ passes with some 1,400 clips."""
    macro_f1_loss: Share = 0.03
    """So for macro-F1, which small classes make less certain."""
    recall_loss: Share = 0.1
    """How much the worst class may lose as measured; a class of fifty faces is not known better than that."""
    latency_ratio: Annotated[float, Field(gt=0)] = 2.5
    """Time per face against the champion's; crops of 96 pixels instead of 64 cost 2.25."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Of the two-sided intervals, whose lower end counts."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A release with its network."""

    release: Release
    network: Network


def checked(candidate: Contestant, champion: Contestant | None, frozen: Sequence[Clips], gate: Gate) -> tuple[Check, ...]:
    """Every check, passed or not. Raises DataUnusable where no frozen set has crops large enough, or labels."""
    if not frozen:
        return (Check(name="frozen sets", candidate=0, champion=None, limit=1, passed=False),)
    known = learnt_from(candidate.release, frozen)
    if not known.passed:
        return (known,)
    unseen = [unseen_part(clips, candidate.release, champion.release if champion else None) for clips in frozen]
    verdicts = (known, *measured(candidate, champion, unseen, gate))
    return (*verdicts, latency(candidate, champion, gate)) if champion else verdicts


def measured(candidate: Contestant, champion: Contestant | None, frozen: Sequence[Clips], gate: Gate) -> tuple[Check, ...]:
    """How right it is, by itself and beside the champion."""
    size = max(each.release.size for each in (candidate, champion) if each)
    sets = one_size(frozen, size)
    mine = [reported(candidate, clips) for clips in sets]
    by_itself = (_finite(candidate), *_floors(pooled(mine), gate))
    if champion is None:
        return by_itself
    theirs = [reported(champion, clips) for clips in sets]
    on_each = (_shown_worse(clips.name, left, right, gate) for clips, left, right in zip(sets, mine, theirs, strict=True))
    return (*by_itself, *_losses(mine, theirs, gate), *on_each)


# --- what neither has learnt from ----------------------------------------------------------------------------------------


def learnt_from(release: Release, frozen: Sequence[Clips]) -> Check:
    """How many frozen sets the release has learnt from without saying that people were held out: nobody of them can be measured on."""
    known = sum(held_out(release, clips) == 0 for clips in frozen)
    return Check(name="learnt from frozen sets", candidate=known, champion=None, limit=0, passed=not known)


def unseen_part(clips: Clips, candidate: Release, champion: Release | None) -> Clips:
    """The people of a frozen set whom the candidate has not learnt from, nor the champion where it says whom it held out. One that has
    learnt from all of them, or does not say, is only harder to beat. Raises DataUnusable when nobody is left.
    """
    shares = [share for release in (candidate, champion) if release and (share := held_out(release, clips))]
    if not shares:
        return clips
    _, out = split_by_subject(clips, held_out=min(shares))  # who falls to a small share falls to every larger one, too
    return out


def held_out(release: Release, clips: Clips) -> float | None:
    """The share of a set's subjects that a release's training left alone: None where it has learnt from none of them. A set is known by
    its name, however it was cropped, and by its digest, whatever it is called.
    """
    uses = [data for data in release.data if data.use in LESSONS and (data.name == clips.name or data.sha256 == clips.sha256)]
    return min((data.held_out for data in uses), default=None)


def require(checks: Iterable[Check]) -> None:
    """Raise CandidateWorse, naming every check that failed."""
    reasons = [in_words(check) for check in checks if not check.passed]
    if reasons:
        raise CandidateWorse("; ".join(reasons), reasons=reasons)


def in_words(check: Check) -> str:
    champion = "" if check.champion is None else f", the champion's is {check.champion:g}"
    return f"{check.name} is {check.candidate:g}, the limit is {check.limit:g}{champion}"


def one_size(frozen: Sequence[Clips], size: int) -> list[Clips]:
    """One set of each name: the one with the smallest crops that need not be enlarged, else the largest."""
    sets: dict[str, Clips] = {}
    for clips in sorted(frozen, key=lambda clips: (clips.size >= size, -clips.size if clips.size >= size else clips.size)):
        sets[clips.name] = clips
    return list(sets.values())


def reported(contestant: Contestant, clips: Clips) -> Report:
    return evaluate(contestant.network, clips.labelled().resized(contestant.release.size))


def _floors(report: Report, gate: Gate) -> list[Check]:
    floors = {
        "accuracy": (report.accuracy, gate.accuracy_floor),
        "macro-F1": (report.macro_f1, gate.macro_f1_floor),
        "recall of the worst class": (min(report.recall.values()), gate.recall_floor),
    }
    return [_at_least(f"{name}, by itself,", value, None, floor) for name, (value, floor) in floors.items()]


def _losses(mine: list[Report], theirs: list[Report], gate: Gate) -> list[Check]:
    """On everything together, how much worse than the champion it may still be, seen what chance may have added."""
    candidate, champion = pooled(mine), pooled(theirs)
    f1 = gain(mine, theirs, confidence=gate.confidence)
    luck = f1.macro_f1 - f1.low
    worst, best_worst = (min(report.recall.values()) for report in (candidate, champion))
    return [
        _at_least("accuracy", candidate.accuracy, champion.accuracy, champion.accuracy - gate.accuracy_loss + spread(mine, theirs, gate)),
        _at_least("macro-F1", candidate.macro_f1, champion.macro_f1, champion.macro_f1 - gate.macro_f1_loss + luck),
        _at_least("recall of the worst class", worst, best_worst, best_worst - gate.recall_loss),
    ]


def _shown_worse(name: str, mine: Report, theirs: Report, gate: Gate) -> Check:
    return _at_least(f"accuracy on {name}", mine.accuracy, theirs.accuracy, theirs.accuracy - spread([mine], [theirs], gate))


def spread(mine: list[Report], theirs: list[Report], gate: Gate) -> float:
    """Half the normal interval of the difference in accuracy, from each clip's own difference: -1, 0 or 1 (McNemar's pairs)."""
    rights = [(report.scores.argmax(dim=1) == report.labels).double() for report in (pooled(mine), pooled(theirs))]
    differences = rights[0] - rights[1]
    deviation: float = differences.std(correction=0).item()
    return NormalDist().inv_cdf((1 + gate.confidence) / 2) * deviation / math.sqrt(len(differences))


def _at_least(name: str, candidate: float, champion: float | None, limit: float) -> Check:
    rounded = None if champion is None else round(champion, 4)
    return Check(name=name, candidate=round(candidate, 4), champion=rounded, limit=round(limit, 4), passed=candidate >= limit)


@torch.inference_mode()
def _finite(contestant: Contestant) -> Check:
    """Whether the network has an answer also to what is no face: black, white, and noise."""
    noise, _, _ = examples(contestant.release, batch=2, frames=1)
    faces = torch.cat([torch.zeros_like(noise[:1]), torch.full_like(noise[:1], 255), noise])
    features, *explanations = contestant.network.encoder(faces)
    verdict = contestant.network.clip(features[None], torch.ones(1, len(faces)))
    answers = torch.cat([tensor.flatten() for tensor in (features, *explanations, *verdict)])
    return _at_least("share of numbers that are numbers", float(answers.isfinite().double().mean()), None, 1.0)


def latency(candidate: Contestant, champion: Contestant, gate: Gate) -> Check:
    """The traced graphs of both by turns. The fastest round counts: what the others took longer, the machine did for others."""
    runs = [_timed(each) for each in (candidate, champion)]
    times = [[run() for run in runs] for _ in range(LATENCY_ROUNDS)]
    mine, theirs = (min(column) for column in zip(*times, strict=True))
    limit = theirs * gate.latency_ratio
    return Check(
        name="milliseconds per face", candidate=round(mine, 3), champion=round(theirs, 3), limit=round(limit, 3), passed=mine <= limit
    )


def _timed(contestant: Contestant) -> Callable[[], float]:
    """A function that judges one clip with the traced graphs and returns the milliseconds per face."""
    frames, clip = traced(contestant.release, contestant.network)
    faces, _, _ = examples(contestant.release, batch=LATENCY_BATCH, frames=1)
    mask = torch.ones(1, LATENCY_BATCH)

    @torch.inference_mode()
    def run() -> float:
        began = perf_counter()
        features: Tensor = frames(faces)[0]
        clip(features[None], mask)
        return 1000 * (perf_counter() - began) / LATENCY_BATCH

    for _ in range(3):  # TorchScript profiles its first runs and optimises after them
        run()
    return run

"""Whether a difference between two networks is more than the luck of the draw: a paired bootstrap over the measured clips."""

import torch
from torch import Tensor

from training.evaluate import Report
from training.record import Gain

RESAMPLES = 1000

Interval = tuple[float, float]
"""Low and high."""


def gain(student: list[Report], champion: list[Report], *, confidence: float, seed: int = 0) -> Gain:
    """How much better the student's macro-F1 is over all sets together, with a percentile bootstrap interval.

    Clips are drawn with replacement, the same for both networks (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13). Raises ValueError unless both have judged the same clips in the same order.
    """
    mine, theirs = pooled(student), pooled(champion)
    if not torch.equal(mine.labels, theirs.labels):
        raise ValueError("the two networks judged other clips")
    generator = torch.Generator().manual_seed(seed)
    count = len(mine.labels)
    draws = [difference(mine, theirs, torch.randint(count, (count,), generator=generator)) for _ in range(RESAMPLES)]
    low, high = interval(torch.tensor(draws, dtype=torch.float64), confidence)
    return Gain(
        macro_f1=round(difference(mine, theirs, torch.arange(count)), 4),
        low=round(low, 4),
        high=round(high, 4),
        accuracy=round(mine.accuracy - theirs.accuracy, 4),
    )


def pooled(reports: list[Report]) -> Report:
    return Report(scores=torch.cat([report.scores for report in reports]), labels=torch.cat([report.labels for report in reports]))


def difference(mine: Report, theirs: Report, rows: Tensor) -> float:
    """The gain in macro-F1 on the drawn rows."""
    return mine.part(rows).macro_f1 - theirs.part(rows).macro_f1


def interval(figures: Tensor, confidence: float) -> Interval:
    """Where the middle of the figures lies, leaving as many out on either side."""
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = figures.double().quantile(tails).tolist()
    return low, high

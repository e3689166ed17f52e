"""How far one network's figures might be off by the luck of which clips were measured."""

from collections.abc import Sequence

import numpy as np
import torch

from training.bootstrap import RESAMPLES, Interval, interval


def intervals(confusion: Sequence[Sequence[int]], *, confidence: float, seed: int = 0) -> tuple[Interval, Interval]:
    """Percentile bootstrap intervals of accuracy and of macro-F1, from counts whose rows are truth and columns verdicts.

    To these figures all clips of one truth and verdict are alike, so that drawing clips with replacement is drawing counts from a
    multinomial distribution.
    """
    counts = np.asarray(confusion)
    samples = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(samples, counts.flatten() / samples, size=RESAMPLES)
    resampled = torch.from_numpy(draws).reshape(-1, *counts.shape)
    right, truths, verdicts = resampled.diagonal(dim1=1, dim2=2), resampled.sum(dim=2), resampled.sum(dim=1)
    present = truths > 0
    f1 = (2 * right / (truths + verdicts).clamp(min=1) * present).sum(dim=1) / present.sum(dim=1)
    return interval(right.sum(dim=1) / samples, confidence), interval(f1, confidence)

"""Intervals that agree with drawing clips one by one, and with what is known of proportions."""

import math

import pytest
import torch

from training.bootstrap import interval
from training.evaluate import Report
from training.uncertainty import intervals


def verdicts() -> Report:
    """400 clips of seven classes, most of them judged right, four of them of the rarest."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.cat([torch.full((4,), 6), torch.randint(0, 6, (396,), generator=generator)])
    scores = torch.rand(400, 7, generator=generator) + 0.6 * torch.nn.functional.one_hot(labels, 7)
    return Report(scores=torch.softmax(scores, dim=1), labels=labels)


def test_the_same_as_drawing_clips_one_by_one() -> None:
    report = verdicts()
    generator = torch.Generator().manual_seed(5)
    draws = [report.part(torch.randint(400, (400,), generator=generator)) for _ in range(1000)]
    by_accuracy = interval(torch.tensor([draw.accuracy for draw in draws]), 0.9)
    by_f1 = interval(torch.tensor([draw.macro_f1 for draw in draws]), 0.9)
    accuracy, macro_f1 = intervals(report.confusion.tolist(), confidence=0.9)
    assert accuracy == pytest.approx(by_accuracy, abs=0.008)
    assert macro_f1 == pytest.approx(by_f1, abs=0.015)


def test_accuracy_is_as_uncertain_as_a_proportion_is() -> None:
    confusion = [[300, 100], [100, 300]]
    (low, high), _ = intervals(confusion, confidence=0.95)
    half_width = 1.96 * math.sqrt(0.75 * 0.25 / 800)
    assert (low, high) == pytest.approx((0.75 - half_width, 0.75 + half_width), abs=0.005)


def test_more_confidence_takes_a_wider_interval() -> None:
    (low, high), _ = intervals([[30, 10], [10, 30]], confidence=0.6)
    (lower, higher), _ = intervals([[30, 10], [10, 30]], confidence=0.99)
    assert lower < low < high < higher


def test_what_is_always_right_is_certain() -> None:
    assert intervals([[9, 0], [0, 5]], confidence=0.9) == ((1, 1), (1, 1))


def test_the_same_counts_give_the_same_interval() -> None:
    assert intervals([[9, 3], [2, 5]], confidence=0.9) == intervals([[9, 3], [2, 5]], confidence=0.9)

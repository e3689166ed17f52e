import pytest
import torch

from training.evaluate import report


def test_figures_by_hand() -> None:
    # Four truths of class 0, two of class 1: verdicts 0 0 0 1 | 1 0.
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    verdicts = torch.tensor([0, 0, 0, 1, 1, 0])
    scores = torch.nn.functional.one_hot(verdicts, 7).float()
    measured = report(scores, labels)
    assert measured.accuracy == pytest.approx(4 / 6)
    assert measured.recall == pytest.approx({"angry": 3 / 4, "disgust": 1 / 2})
    assert measured.mean_recall == pytest.approx(5 / 8)
    assert measured.macro_f1 == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert measured.calibration_error == pytest.approx(2 / 6), "always certain, right four times of six"


def test_a_calibrated_guess_has_no_calibration_error() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    scores = torch.tensor([[0.75, 0.25, 0, 0, 0, 0, 0]]).repeat(4, 1)
    assert report(scores, labels).calibration_error == pytest.approx(0, abs=1e-6)

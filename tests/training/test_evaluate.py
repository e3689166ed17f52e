import pytest
import torch

from training.bootstrap import gain
from training.datasets import Clips
from training.evaluate import Report, evaluate, scores_of
from training.network import Network
from training.plan import Design


def certain(verdicts: list[int], labels: list[int]) -> Report:
    return Report(scores=torch.nn.functional.one_hot(torch.tensor(verdicts), 7).float(), labels=torch.tensor(labels))


def test_figures_by_hand() -> None:
    measured = certain([0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1])
    assert measured.accuracy == pytest.approx(4 / 6)
    assert measured.recall == pytest.approx({"angry": 3 / 4, "disgust": 1 / 2})
    assert measured.mean_recall == pytest.approx(5 / 8)
    assert measured.macro_f1 == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert measured.calibration_error == pytest.approx(2 / 6), "always certain, right four times of six"
    assert measured.measured().confusion[0][:2] == (3, 1)
    assert measured.figures()["recall_angry"] == 0.75


def test_a_calibrated_guess_has_no_calibration_error() -> None:
    scores = torch.tensor([[0.75, 0.25, 0, 0, 0, 0, 0]]).repeat(4, 1)
    assert Report(scores=scores, labels=torch.tensor([0, 0, 0, 1])).calibration_error == pytest.approx(0, abs=1e-6)


def test_only_labelled_clips_are_measured(painted: Clips) -> None:
    network = Network(Design(width=0.125))
    targets = painted.targets.clone()
    targets[::2] = 0
    assert len(evaluate(network, painted.with_targets(targets)).labels) == 70


def test_a_verdict_does_not_depend_on_the_batch(painted: Clips) -> None:
    torch.manual_seed(0)
    network = Network(Design(width=0.125))
    torch.testing.assert_close(scores_of(network, painted, batch=3), scores_of(network, painted), atol=1e-5, rtol=1e-4)


def test_a_better_student_is_better_beyond_the_interval() -> None:
    labels = [row % 7 for row in range(350)]
    poor = certain([label if row % 2 else 0 for row, label in enumerate(labels)], labels)
    good = certain([label if row % 10 else 0 for row, label in enumerate(labels)], labels)
    better = gain([good], [poor], confidence=0.9)
    assert 0 < better.low < better.macro_f1 < better.high
    assert better.accuracy == pytest.approx(good.accuracy - poor.accuracy, abs=1e-4)
    assert gain([poor], [poor], confidence=0.9).high == 0


def test_luck_does_not_count() -> None:
    labels = [row % 7 for row in range(70)]
    one = certain([label if row % 3 else 0 for row, label in enumerate(labels)], labels)
    other = certain([label if (row + 1) % 3 else 0 for row, label in enumerate(labels)], labels)
    interval = gain([one], [other], confidence=0.9)
    assert interval.low < 0 < interval.high


def test_networks_that_judged_other_clips_are_not_compared() -> None:
    with pytest.raises(ValueError, match="other clips"):
        gain([certain([0], [0])], [certain([0], [1])], confidence=0.9)

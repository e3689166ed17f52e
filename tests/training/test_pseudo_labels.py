import pytest
import torch

from shared.errors import DataUnusable
from shared.expressions import LABELS
from tests.painted import painted_clips
from training.datasets import Clips
from training.evaluate import scores_of
from training.network import Network
from training.plan import Design, PseudoLabelling
from training.processes import Processes
from training.pseudo_labels import balanced, confident, for_people, histogram, lessons_of, opinion, softened


def opinions(labels: list[int], sureness: list[float]) -> torch.Tensor:
    """Scores (N, 7) with so much on one label and the rest spread evenly."""
    scores = (1 - torch.tensor(sureness))[:, None].repeat(1, 7) / 6
    scores[torch.arange(len(labels)), torch.tensor(labels)] = torch.tensor(sureness)
    return scores


def unlabelled(count: int) -> Clips:
    return painted_clips(count, labelled=False)


def test_only_what_the_teacher_is_sure_of_is_kept_with_all_of_its_opinion() -> None:
    scores = opinions([0, 1, 2], [0.9, 0.4, 0.5])
    sure = confident(unlabelled(3), scores, threshold=0.5)
    assert sure.sources == ("painted#0", "painted#2")
    torch.testing.assert_close(sure.targets, scores[[0, 2]])


def test_a_teacher_that_is_sure_of_nothing_teaches_nothing() -> None:
    with pytest.raises(DataUnusable, match="sure of none of the 3"):
        confident(unlabelled(3), opinions([0, 1, 2], [0.3, 0.3, 0.3]), threshold=0.5)


def test_balancing_keeps_the_surest_of_large_classes_and_repeats_small_ones() -> None:
    labels, sureness = [3] * 6 + [5], [0.6, 0.9, 0.7, 0.95, 0.8, 0.65, 0.5]
    clips = unlabelled(7).with_targets(opinions(labels, sureness))
    even = balanced(clips, per_class=3, most_repeats=2)
    assert even.sources == ("painted#3", "painted#1", "painted#4", "painted#6", "painted#6")
    assert histogram(even) == dict.fromkeys(LABELS, 0) | {LABELS[3]: 3, LABELS[5]: 2}


def test_a_class_is_as_large_as_the_mean_one_unless_said_otherwise() -> None:
    clips = unlabelled(8).with_targets(opinions([0] * 6 + [1] * 2, [0.9] * 8))
    assert histogram(balanced(clips, per_class=None, most_repeats=9)) == dict.fromkeys(LABELS, 0) | {LABELS[0]: 4, LABELS[1]: 4}


def test_the_teacher_labels_without_noise_and_balancing_can_be_left_out() -> None:
    torch.manual_seed(0)
    teacher, clips = Network(Design(width=0.125)), unlabelled(20)
    scores = opinion(teacher, clips, size=32, processes=Processes())
    lessons = lessons_of(scores, clips, PseudoLabelling(threshold=0, balanced=False))
    assert lessons.unlabelled == 20
    assert lessons.balanced is lessons.confident
    torch.testing.assert_close(lessons.confident.targets, scores_of(teacher, clips))


def test_people_and_teacher_share_a_label() -> None:
    clips, scores = painted_clips(7), opinions([0] * 7, [0.9] * 7)
    torch.testing.assert_close(softened(clips, scores, 0.25).targets, 0.75 * clips.targets + 0.25 * scores)


def test_what_was_taught_names_its_source_and_its_teacher_once() -> None:
    clips = unlabelled(2).with_targets(opinions([0, 1], [0.9, 0.8])).part([1, 0, 1])
    lines = for_people(clips, pseudo_labeller="mien_000001")
    assert [(line.source, line.times, line.pseudo_labeller, line.licence) for line in lines] == [
        ("painted#1", 2, "mien_000001", "CC0"),
        ("painted#0", 1, "mien_000001", "CC0"),
    ]
    assert lines[0].scores[1] == 0.8

"""What a candidate has to show, and against whom."""

from dataclasses import replace

import pytest
import torch

from shared.errors import CandidateWorse, DataUnusable
from shared.releases import DataSet
from tests.candidates import contestant
from tests.painted import painted_clips
from training.datasets import Clips, split_by_subject
from training.evaluate import Report
from training.gate import Contestant, Gate, checked, measured, one_size, require, spread, unseen_part
from training.repository import Check

FROZEN = [painted_clips(280, seed=3), painted_clips(140, name="others", seed=4)]


def failed(checks: tuple[Check, ...]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def relabelled(clips: Clips, rows: list[int]) -> Clips:
    """The same clips, of which some are called by the next label."""
    targets = clips.targets.clone()
    targets[rows] = targets[rows].roll(1, dims=1)
    return clips.with_targets(targets)


def having_used(one: Contestant, clips: Clips, uses: dict[str, float], known_by: str = "sha256") -> Contestant:
    """One that says it has used a set, holding out a share of its people."""
    known = {"name": "renamed", "sha256": "f" * 64, known_by: getattr(clips, known_by)}
    data = tuple(DataSet(use=use, samples=280, licence="CC0", held_out=share, **known) for use, share in uses.items())
    return replace(one, release=one.release.model_copy(update={"data": data}))


def accuracy_of(checks: tuple[Check, ...]) -> float:
    return next(check.candidate for check in checks if check.name == "accuracy, by itself,")


@pytest.fixture(scope="module")
def good() -> Contestant:
    return contestant(2)


def test_a_network_that_knows_its_faces_passes_without_a_champion(good: Contestant) -> None:
    checks = measured(good, None, FROZEN, Gate())
    require(checks)
    assert all(check.champion is None for check in checks)


def test_an_equal_network_passes_however_small_the_frozen_set_is(good: Contestant) -> None:
    require(measured(good, replace(good), [painted_clips(14, seed=3)], Gate()))


def test_a_network_that_knows_nothing_fails_by_itself_and_against_the_champion(good: Contestant) -> None:
    nothing = contestant(3, knows=relabelled(painted_clips(210, seed=9), list(range(210))))
    with pytest.raises(CandidateWorse) as caught:
        require(measured(nothing, good, FROZEN, Gate()))
    reasons = caught.value.extra["reasons"]
    assert isinstance(reasons, list)
    assert [reason.partition(" is ")[0] for reason in reasons] == [
        "accuracy, by itself,",
        "macro-F1, by itself,",
        "recall of the worst class, by itself,",
        "accuracy",
        "macro-F1",
        "recall of the worst class",
        "accuracy on painted",
        "accuracy on others",
    ]
    assert "the champion's is" in reasons[3]


@pytest.mark.parametrize(
    ("uses", "refused"),
    [
        ({"train": 0.0}, True),
        ({"unlabelled": 0.0}, True),
        ({"train": 0.0, "validation": 0.0}, True),
        ({"train": 0.3, "unlabelled": 0.0}, True),
        ({"train": 0.3, "validation": 0.3}, False),
        ({"validation": 0.0}, False),
    ],
)
@pytest.mark.parametrize("known_by", ["name", "sha256"])
def test_what_was_learnt_from_measures_nothing_unless_people_were_held_out(
    good: Contestant, uses: dict[str, float], refused: bool, known_by: str
) -> None:
    learner = having_used(good, FROZEN[0], uses, known_by)
    checks = checked(learner, good, FROZEN, Gate(latency_ratio=1000))
    assert failed(checks) == (["learnt from frozen sets"] if refused else [])
    assert refused == ("accuracy" not in [check.name for check in checks]), "what is refused is not measured at all"


def test_of_a_set_that_was_learnt_from_in_part_only_those_count_who_were_held_out(good: Contestant) -> None:
    """The people whom it held out are called by other labels than those whom it learnt from, and it knows only these."""
    people = painted_clips(280, seed=3, people=40)
    kept, out = split_by_subject(people, held_out=0.4)
    strange = relabelled(people, [row for row in range(280) if people.subjects[row] in out.subjects])
    learner = having_used(good, people, {"train": 0.4, "validation": 0.4})
    accuracy = accuracy_of(checked(learner, None, [strange], Gate()))
    assert accuracy < 0.1
    assert accuracy_of(checked(good, None, [strange], Gate())) == pytest.approx((len(kept) + accuracy * len(out)) / 280, abs=0.1)


def test_of_two_that_held_people_out_only_those_count_whom_neither_has_learnt_from(good: Contestant) -> None:
    people = painted_clips(280, seed=3, people=40)
    more, fewer = (having_used(good, people, {"train": share}) for share in (0.5, 0.2))
    _, expected = split_by_subject(people, held_out=0.2)
    for pair in ((more, fewer), (fewer, more)):
        assert set(unseen_part(people, *(each.release for each in pair)).subjects) == set(expected.subjects)
    assert unseen_part(people, more.release, good.release).subjects == split_by_subject(people, held_out=0.5)[1].subjects


def test_a_set_of_which_nobody_was_held_out_after_all_measures_nothing(good: Contestant) -> None:
    alone = painted_clips(14, people=1)
    with pytest.raises(DataUnusable):
        checked(having_used(good, alone, {"train": 1e-9}), None, [alone], Gate())


def test_a_class_that_was_given_up_is_noticed_though_accuracy_hides_it(good: Contestant) -> None:
    rare = [row for row in range(280) if row % 7 or row < 70]
    frozen = [FROZEN[0].part(rare)]
    blind = contestant(3)
    with torch.no_grad():
        blind.network.clip.output.bias[0] -= 100
    checks = measured(blind, good, frozen, Gate(accuracy_loss=0.5, macro_f1_loss=0.5))
    assert "recall of the worst class" in failed(checks)
    assert "accuracy, by itself," not in failed(checks)


def test_a_loss_on_one_set_is_not_made_up_for_by_another(good: Contestant) -> None:
    """What half of one set is called differs; the champion has learnt to say so, and the candidate has not."""
    lenient = Gate(accuracy_floor=0, macro_f1_floor=0, recall_floor=0, accuracy_loss=1, macro_f1_loss=1, recall_loss=1)
    renamed = relabelled(FROZEN[1], list(range(140)))
    champion = contestant(1, knows=relabelled(painted_clips(210, seed=9), list(range(210))))
    assert failed(measured(good, champion, [FROZEN[0], renamed], lenient)) == ["accuracy on others"]


def test_luck_counts_for_the_champion_in_a_small_set() -> None:
    labels = torch.zeros(20, dtype=torch.int64)

    def right_in(rows: list[int]) -> Report:
        verdicts = torch.ones(20, dtype=torch.int64)
        verdicts[rows] = 0
        return Report(scores=torch.nn.functional.one_hot(verdicts, 7).float(), labels=labels)

    same, other = right_in(list(range(10))), right_in(list(range(10, 20)))
    assert spread([same], [same], Gate()) == 0
    assert spread([same], [other], Gate()) == pytest.approx(1.645 / 20**0.5, abs=1e-3)


def test_a_slow_network_is_refused(good: Contestant) -> None:
    assert failed(checked(contestant(3, width=0.5), good, [FROZEN[0]], Gate())) == ["milliseconds per face"]


def test_numbers_that_are_none_are_noticed(good: Contestant) -> None:
    mad = contestant(3)
    with torch.no_grad():
        mad.network.encoder.reduce.weight.mul_(1e30)
        mad.network.clip.output.weight.mul_(1e30)
    assert "share of numbers that are numbers" in failed(measured(mad, None, FROZEN, Gate()))


def test_without_anything_to_measure_on_nothing_passes(good: Contestant) -> None:
    with pytest.raises(CandidateWorse, match="frozen sets"):
        require(checked(good, None, [], Gate()))


def test_unlabelled_clips_measure_nothing(good: Contestant) -> None:
    with pytest.raises(DataUnusable):
        measured(good, None, [painted_clips(70, labelled=False)], Gate())


def enlarged(clips: Clips, size: int) -> Clips:
    return replace(clips, frames=torch.nn.functional.interpolate(clips.frames, size=size))


def test_networks_of_different_sizes_see_the_same_clips_each_at_its_own_size(good: Contestant) -> None:
    larger = contestant(3, size=48)
    frozen = [*FROZEN, enlarged(FROZEN[0], 64), enlarged(FROZEN[0], 48)]
    assert {clips.name: clips.size for clips in one_size(frozen, 48)} == {"others": 32, "painted": 48}
    checks = measured(larger, good, frozen[2:], Gate(accuracy_floor=0))
    assert {check.name: check.champion for check in checks}["accuracy"] > 0.9
    with pytest.raises(DataUnusable, match="harvest it anew"):
        measured(larger, good, FROZEN, Gate())

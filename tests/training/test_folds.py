"""Folds never share a person, test everybody once, and say what they cannot do."""

from dataclasses import replace

import pytest
import torch

from shared.errors import ClassMissing, DataUnusable, SubjectsLeak
from tests.painted import painted_clips
from training.folds import folds


def test_everybody_is_tested_once_and_never_learnt_from_then() -> None:
    clips = painted_clips(140, people=10)
    tested = []
    for train, test in folds(clips, 5):
        assert not set(train.subjects) & set(test.subjects)
        assert len(train) + len(test) == len(clips)
        tested += test.sources
    assert sorted(tested) == sorted(clips.sources)


def test_subjects_are_dealt_out_in_the_order_of_their_names() -> None:
    tests = [sorted(set(test.subjects)) for _, test in folds(painted_clips(140, people=10), 5)]
    assert tests[0] == ["person 0", "person 5"]
    assert tests[4] == ["person 4", "person 9"]


def test_the_order_of_the_clips_does_not_matter() -> None:
    clips = painted_clips(70, people=7)
    mixed = clips.part(torch.randperm(70, generator=torch.Generator().manual_seed(1)))
    for (_, one), (_, other) in zip(folds(clips, 3), folds(mixed, 3), strict=True):
        assert sorted(one.sources) == sorted(other.sources)


@pytest.mark.parametrize("k", [1, 0, -3, 11])
def test_more_folds_than_people_or_fewer_than_two_are_refused(k: int) -> None:
    with pytest.raises(DataUnusable, match="10 subjects"):
        folds(painted_clips(140, people=10), k)


def test_an_expression_that_only_one_fold_shows_is_missed_before_anything_is_fitted() -> None:
    clips = painted_clips(70, people=5)
    is_theirs = torch.tensor([subject == "person 3" for subject in clips.subjects])
    kept = torch.nonzero(is_theirs | (clips.labels != 1)).flatten()
    with pytest.raises(ClassMissing, match=r"fold 4 .* disgust"):
        folds(clips.part(kept), 5)


def test_a_set_that_lacks_an_expression_altogether_is_folded() -> None:
    clips = painted_clips(70, people=5)
    assert len(list(folds(clips.part(torch.nonzero(clips.labels != 4).flatten()), 5))) == 5


def test_the_same_frames_under_two_names_leak() -> None:
    clips = painted_clips(70, people=5)
    rows = [*range(70), 0]
    twice = clips.part(rows)
    with pytest.raises(SubjectsLeak, match="person 4"):
        folds(replace(twice, subjects=(*twice.subjects[:-1], "person 4")), 5)


def test_the_same_frames_twice_under_one_name_do_not() -> None:
    clips = painted_clips(70, people=5).part([*range(70), 0])
    assert sum(len(test) for _, test in folds(clips, 5)) == 71

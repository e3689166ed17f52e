"""Two releases side by side."""

from shared.releases import DataSet, Release
from training.comparison import compare

FER = DataSet(name="fer", use="train", samples=7, licence="CC0", sha256="0" * 64)


def release(version: int, **told: object) -> Release:
    return Release.model_validate(
        {
            "version": version,
            "size": 64,
            "width": 0.25,
            "feature_size": 128,
            "training": {"plan": {"seed": 1, "stretches": [{"epochs": 30, "size": 64}]}},
            "metrics": {"val": {"accuracy": 0.6, "recall_happy": 0.8}},
            "data": (FER,),
            "commit": "abc",
            "notes": "",
            **told,
        }
    )


def test_equal_releases_differ_in_nothing() -> None:
    comparison = compare(release(1), release(2))
    assert (comparison.differences, comparison.data_of_both, comparison.data_of_left) == ((), (FER,), ())
    assert [(one.figure, one.difference) for one in comparison.metrics] == [("accuracy", 0.0), ("recall_happy", 0.0)]


def test_figures_stand_beside_each_other_also_where_one_is_missing() -> None:
    right = release(2, metrics={"val": {"accuracy": 0.65, "recall_sad": 0.4}, "new": {"accuracy": 0.9}})
    figures = {(one.set, one.figure): (one.left, one.right, one.difference) for one in compare(release(1), right).metrics}
    assert figures == {
        ("val", "accuracy"): (0.6, 0.65, 0.05),
        ("val", "recall_happy"): (0.8, None, None),
        ("val", "recall_sad"): (None, 0.4, None),
        ("new", "accuracy"): (None, 0.9, None),
    }


def test_what_was_done_otherwise_is_named_by_its_path() -> None:
    other = DataSet(name="other", use="unlabelled", samples=3, licence="CC0", sha256="1" * 64)
    plan = {"seed": 2, "stretches": [{"epochs": 30, "size": 64}, {"epochs": 4, "size": 96}]}
    comparison = compare(release(1), release(2, size=96, training={"plan": plan}, data=(FER, other)))
    assert {one.field: (one.left, one.right) for one in comparison.differences} == {
        "size": (64, 96),
        "training.plan.seed": (1, 2),
        "training.plan.stretches.1.epochs": (None, 4),
        "training.plan.stretches.1.size": (None, 96),
    }
    assert (comparison.data_of_right, comparison.data_of_left) == ((other,), ())

"""The model card says what `release.json` says, says what is weak about it, and invents nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import ModelVersionUnavailable
from shared.expressions import LABELS
from shared.releases import DataSet, Release, read
from training.card import CARD, render, write
from training.plan import Plan, Recipe, Source, Stretch

SHIPPED = Path(__file__).parents[2] / "training" / "releases" / "000001" / "release.json"


def release(**changed: object) -> Release:
    return Release.model_validate(
        {
            "version": 7,
            "parent": 3,
            "size": 64,
            "width": 0.25,
            "feature_size": 128,
            "training": {"minutes": 12.5},
            "metrics": {
                "acted": {"samples": 4000, "accuracy": 0.7, "calibration_error": 0.02} | {f"recall_{name}": 0.7 for name in LABELS}
            },
            "data": (DataSet(name="acted", use="validation", samples=4000, licence="CC0", sha256="a" * 64),),
            "commit": "c0ffee",
            "notes": "It has never seen rain.",
        }
        | changed
    )


def section(card: str, title: str) -> str:
    return re.split(r"^## ", card.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_it_says_who_made_what_from_which_parent() -> None:
    card = render(release())
    assert card.startswith("# Model card: mien_000007\n")
    what = section(card, "What it is")
    assert "mien_000003" in what
    assert "`c0ffee`" in what
    assert "none" in section(render(release(parent=None)), "What it is")


def test_uses_are_bounded_and_the_law_is_named() -> None:
    forbidden = section(render(release()), "Forbidden uses")
    for word in (
        "at work or in education",
        "2024/1689",
        "Article 5(1)(f)",
        "medical or safety",
        "Decisions about a person",
        "who somebody is",
        "covertly",
    ):
        assert word in forbidden


def test_every_set_is_there_with_its_licence_and_count() -> None:
    shipped = read(SHIPPED)
    data = section(render(shipped), "Data")
    for source in shipped.data:
        assert f"| {source.name} | {source.use} | {source.samples:,} | {source.licence} |" in data


def test_every_figure_of_the_shipped_release_is_on_its_card() -> None:
    shipped = read(SHIPPED)
    figures = section(render(shipped), "Figures")
    for of_set in shipped.metrics.values():
        for name, value in of_set.items():
            assert (f"{value:,.0f}" if name == "samples" else f"{100 * value:.1f} %") in figures


def test_weak_classes_and_poor_calibration_are_failures_in_order_of_weakness() -> None:
    metrics = release().metrics["acted"] | {"recall_sad": 0.31, "recall_fear": 0.2, "calibration_error": 0.15, "samples": 90.0}
    failures = section(render(release(metrics={"acted": metrics})), "Known failures")
    assert "fear (20.0 %), sad (31.0 %)." in failures
    assert "off by 15.0 %" in failures
    assert "90 samples only" in failures
    assert "happy" not in failures
    assert "It has never seen rain." in failures


def test_a_good_release_has_only_the_failures_that_its_notes_name() -> None:
    assert section(render(release()), "Known failures").strip() == "It has never seen rain."


def test_a_class_that_was_not_measured_is_a_dash_and_a_failure() -> None:
    figures = {name: value for name, value in release().metrics["acted"].items() if name != "recall_disgust"}
    card = render(release(metrics={"acted": figures}))
    assert "| disgust | - |" in section(card, "Figures")
    assert "not measured on disgust" in section(card, "Known failures")


def test_without_figures_it_claims_none() -> None:
    card = render(release(metrics={}, data=()))
    assert "was not measured" in section(card, "Figures")
    assert "names no data" in section(card, "Data")
    assert "%" not in section(card, "Figures")


def test_a_plan_is_told_in_words_and_no_path_of_a_machine_is() -> None:
    plan = Plan(
        name="a",
        labelled=(Source(store=Path("/secret/home/crops")),),
        unlabelled=(Source(store=Path("/secret/home/more")),),
        student_recipes=(Recipe(stretches=(Stretch(epochs=4, size=48), Stretch(epochs=2, size=64))),),
    )
    teacher = {"number": 0, "became_champion": True, "why": "The first teacher.", "minutes": 4.0}
    gain = {"macro_f1": 0.01, "low": -0.01, "high": 0.03, "accuracy": 0.0}
    student = {"number": 1, "teacher": "round-0", "became_champion": False, "why": "It was luck.", "minutes": 4.0, "gain": gain}
    card = render(release(training={"plan": plan.model_dump(mode="json"), "rounds": [teacher, student], "minutes": 12.5}))
    training = section(card, "Training")
    assert "- Round 0: The first teacher." in training
    assert "- Round 1: **The student did not beat its teacher.** Its gain in macro-F1 is +1.0 points" in training
    assert "4 epochs at 48 px, then 2 epochs at 64 px" in training
    assert "| minutes | 12.5 |" in training
    assert "dropout 0.5" in training
    assert "/secret" not in card


def test_a_plan_of_another_time_is_left_to_release_json() -> None:
    training = section(render(release(training={"plan": {"fashion": "old"}, "minutes": 3})), "Training")
    assert "| minutes | 3 |" in training
    assert "fashion" not in training


def test_a_name_cannot_break_a_table() -> None:
    data = (DataSet(name="a | b\nc", use="train", samples=1, licence="", sha256="a" * 64),)
    assert "| a \\| b c | train | 1 |" in section(render(release(data=data)), "Data")


def test_other_cropping_code_is_not_described_as_ours() -> None:
    cropping = section(render(release(preprocess="p99")), "How faces are cropped")
    assert "p99" in cropping
    assert "MTCNN" not in cropping


def test_written_beside_the_release(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_text(release().model_dump_json())
    command = (sys.executable, "-m", "training.card", tmp_path)
    subprocess.run(command, check=True, cwd=SHIPPED.parents[3], timeout=60)
    assert (tmp_path / CARD).read_text(encoding="utf-8") == render(release())


def test_no_release_no_card(tmp_path: Path) -> None:
    with pytest.raises(ModelVersionUnavailable):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_of_it_comes_from_the_document() -> None:
    one = release()
    assert render(Release.model_validate(json.loads(one.model_dump_json()))) == render(one)

"""The paper's tables over painted faces: every row is a network that was fitted, or says why there is none."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from shared.errors import PlanImpossible
from tests.painted import write_painted_store
from training.cells import CELL, Cells, Experiment
from training.plan import Design, NoiseStrengths, Plan, Recipe, Source, Stretch
from training.tables import main

RECIPE = Recipe(
    design=Design(width=0.125), stretches=(Stretch(epochs=1, size=32),), batch=28, average_decay=0.5, attention_steps=2, bfloat16=False
)
NOISE = NoiseStrengths(translation=0, rotation_degrees=0, scale=0, groups_per_batch=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores, and a plan that needs few of them and little time."""
    folder = tmp_path_factory.mktemp("tables")
    learn = write_painted_store(folder / "learn", 70, seed=1)
    more = write_painted_store(folder / "more", 70, seed=2, labelled=False)
    frozen = write_painted_store(folder / "frozen", 35, seed=3)
    plan = Plan.model_validate(
        {
            "name": "tables",
            "labelled": (Source(store=learn),),
            "unlabelled": (Source(store=more),),
            "frozen": (frozen,),
            "teacher_recipe": RECIPE,
            "student_recipes": (RECIPE,),
            "noise": NOISE,
            "teacher_noise": NOISE,
            "pseudo_labelling": {"threshold": 0.0},
            "rounds": 2,
        }
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> Path:
    """All four tables."""
    assert main(["--plan", str(folder / "plan.json"), "--folds", "3", "--out", str(folder / "out")]) == 0
    return folder / "out"


def rows(text: str) -> dict[str, list[str]]:
    """The lines of a file's first table by their names."""
    lines = [line for line in text.partition("| --- |")[2].partition("\n\n")[0].splitlines() if line.startswith("| ")]
    return {name: cells for name, *cells in ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)}


def cells(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob(f"cells/*/{CELL}")}


def test_regions_one_by_one_and_together(written: Path) -> None:
    text = (written / "regions.md").read_text()
    table = rows(text)
    assert list(table) == ["face", "eyes", "mouth", "all"]
    for accuracy, macro_f1, paper in table.values():
        assert re.fullmatch(r"\d+\.\d % \(\d+\.\d to \d+\.\d\)", accuracy)
        assert re.fullmatch(r"\d+\.\d % \(\d+\.\d to \d+\.\d\)", macro_f1)
        assert paper in ("- (2)", "55.17 % (1)")
    assert table["all"][-1] == "55.17 % (1)"
    assert "| regions | angry | disgust |" in text


def test_iterations_with_balance_and_without(written: Path) -> None:
    table = rows((written / "iterations.md").read_text())
    assert list(table) == ["0: the first teacher", "1, unbalanced", "2, unbalanced", "1, balanced", "2, balanced"]
    assert [row[2] for row in table.values()][:2] == ["0", "70"]
    assert int(table["1, balanced"][2]) > 0
    assert [row[3] for row in table.values()] == ["- (2)"] * 4 + ["55.17 % (1)"]


def test_components_and_what_was_not_measured_in_words(written: Path) -> None:
    text = (written / "components.md").read_text()
    table = rows(text)
    attentions = ["without spatial attention", "without channel attention", "without frame attention"]
    assert list(table) == ["everything", *attentions, "without noise", "without enhancement"]
    parameters = {name: row[2] for name, row in table.items()}
    assert int(parameters["without spatial attention"].replace(",", "")) < int(parameters["everything"].replace(",", ""))
    assert parameters["without noise"] == parameters["everything"]
    for name in ("without frame attention", "without enhancement"):
        assert table[name][:2] == ["not measured", "not measured"]
        assert f"- {name}: not measured. " in text


def test_folds_with_mean_and_standard_deviation_beside_the_papers(written: Path) -> None:
    table = rows((written / "folds.md").read_text())
    assert list(table) == ["1", "2", "3", "mean ± standard deviation"]
    *parts, whole = table.values()
    assert sum(int(people) for people, *_ in parts) == int(whole[0]) == 10
    assert sum(int(clips) for _, clips, *_ in parts) == int(whole[1]) == 70
    assert re.fullmatch(r"\d+\.\d % ± \d+\.\d", whole[2])
    assert whole[-1] == "99.69 % (1)"


def test_what_two_tables_share_is_fitted_once(written: Path) -> None:
    assert len(cells(written)) == 3 + 1 + 4 + 3 + 3, "regions, all of them, students, parts left out, folds"


def test_a_table_says_what_it_rests_on(written: Path) -> None:
    text = (written / "regions.md").read_text()
    for words in ("Labelled: learn.", "Measured on: frozen.", "1 epoch at 32 px", "Seeds: 1.", "(2) The paper's figure was not at hand"):
        assert words in text
    assert str(written.parent) not in text


def test_folds_say_that_everybody_was_measured_on_and_iterations_who_taught_whom(written: Path) -> None:
    folds, iterations = ((written / f"{name}.md").read_text() for name in ("folds", "iterations"))
    assert "Measured on: everybody once, by a network that learnt from the other 2 of 3 parts" in folds
    assert "frozen" not in folds
    assert "Unlabelled: more." in iterations
    assert "Pseudo labels where balanced: soft, from a score of 0 up, evened out" in iterations


def test_nothing_is_fitted_twice(written: Path, folder: Path) -> None:
    before, text = cells(written), (written / "regions.md").read_text()
    assert main(["--plan", str(folder / "plan.json"), "--only", "regions", "--out", str(written)]) == 0
    assert cells(written) == before
    assert (written / "regions.md").read_text() == text
    assert not list(written.glob("cells/*/checkpoint.pt")), "what a fit resumes from is gone once it is done"


def test_a_killed_command_goes_on_and_ends_with_the_same_table(
    written: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--plan", str(folder / "plan.json"), "--only", "regions", "--out", str(tmp_path)]
    fitting = Cells._do

    def killed_after_two(self: Cells, experiment: Experiment) -> None:
        if len(cells(tmp_path)) == 2:
            raise KeyboardInterrupt
        fitting(self, experiment)

    monkeypatch.setattr(Cells, "_do", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    monkeypatch.undo()
    before = cells(tmp_path)
    assert len(before) == 2
    assert not (tmp_path / "regions.md").exists()
    assert main(arguments) == 0
    assert before.items() <= cells(tmp_path).items()
    assert rows((tmp_path / "regions.md").read_text()) == rows((written / "regions.md").read_text())


def test_several_seeds_give_mean_and_deviation(written: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "cells", tmp_path / "cells")
    assert main(["--plan", str(folder / "plan.json"), "--only", "regions", "--seeds", "1", "2", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "regions.md").read_text()
    assert re.fullmatch(r"\d+\.\d % ± \d+\.\d", rows(text)["face"][0])
    assert "over 2 seeds" in text
    assert len(cells(tmp_path)) == len(cells(written)) + 4, "the first seed's are there"


def twice(folder: Path, name: str, count: int, *, frames: int, seed: int) -> tuple[Path, Path]:
    """The same clips harvested with enhancement and without; what it does to pixels is stood for by other noise."""
    enhanced = write_painted_store(folder / name, count, frames=frames, seed=seed, enhance="auto")
    return enhanced, write_painted_store(folder / f"{name}-plain", count, frames=frames, seed=seed + 10)


def test_clips_of_several_frames_have_a_row_without_frame_attention(folder: Path, tmp_path: Path) -> None:
    learn, dark = twice(tmp_path, "clips", 42, frames=2, seed=4)
    frozen, dark_frozen = twice(tmp_path, "frozen-clips", 21, frames=2, seed=5)
    data = ["--labelled", str(learn), "--frozen", str(frozen), "--unenhanced", str(dark), "--unenhanced-frozen", str(dark_frozen)]
    assert main(["--plan", str(folder / "plan.json"), *data, "--only", "components", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "components.md").read_text()
    table = rows(text)
    assert "%" in table["without frame attention"][0]
    assert re.match(r"\d+\.\d %", table["without enhancement"][0])
    assert table["without enhancement"] != table["everything"]
    assert "clips-plain in the place of clips (--enhance auto), frozen-clips-plain in the place of frozen-clips (--enhance auto)" in text


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"enhance": "auto"}, "one store has to be enhanced and the other one not"),
        ({"size": 40}, "cropped at 32 pixels, learn-plain at 40"),
        ({"people": 9}, "1 subjects are in learn or in learn-plain only, such as person 9"),
    ],
)
def test_stores_that_differ_in_more_than_enhancement_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: dict[str, Any], words: str
) -> None:
    learn = write_painted_store(tmp_path / "learn", 70, enhance="auto")
    plain = write_painted_store(tmp_path / "learn-plain", 70, **other)
    told = refusal(caplog, ["--labelled", str(learn), "--unenhanced", str(plain), "--only", "components", "--out", str(tmp_path)])
    assert PlanImpossible.title() in told
    assert words in told
    assert not list(tmp_path.glob("*.md"))


def test_without_unlabelled_clips_there_are_no_iterations_but_words(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(RECIPE.model_dump_json())
    data = ["--labelled", str(folder / "learn"), "--recipe", str(tmp_path / "recipe.json")]
    assert main([*data, "--only", "iterations", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "iterations.md").read_text()
    assert "no unlabelled store" in text
    assert "20.0 % of the subjects of learn" in text


def refusal(caplog: pytest.LogCaptureFixture, arguments: list[str]) -> str:
    assert main(arguments) == 1
    return caplog.text


def test_people_on_both_sides_are_refused(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = ["--labelled", str(folder / "learn"), "--frozen", str(folder / "learn")]
    assert "learnt from and measured on" in refusal(caplog, [*data, "--only", "regions", "--out", str(tmp_path)])
    assert not list(tmp_path.glob("*.md"))


def test_a_table_that_cannot_be_made_does_not_cost_the_others(
    written: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(written / "cells", tmp_path / "cells")
    arguments = ["--plan", str(folder / "plan.json"), "--only", "folds", "regions", "--folds", "11", "--out", str(tmp_path)]
    assert "folds: " in refusal(caplog, arguments)
    assert [path.name for path in tmp_path.glob("*.md")] == ["regions.md"]


def test_a_store_that_is_not_there_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "nowhere" in refusal(caplog, ["--labelled", str(tmp_path / "nowhere"), "--out", str(tmp_path)])


@pytest.mark.parametrize("content", [None, "{", json.dumps({"name": "x"})])
def test_a_plan_that_is_none_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    assert "plan.json" in refusal(caplog, ["--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path)])


def test_a_store_without_enhancement_needs_all_its_fellows(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--plan", str(folder / "plan.json"), "--unenhanced", str(folder / "learn"), "--out", str(tmp_path)]
    assert "without enhancement" in refusal(caplog, arguments)


def test_no_data_at_all_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path)])
    assert stopped.value.code == 2

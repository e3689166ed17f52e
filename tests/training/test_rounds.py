"""Whole runs, on stores on the disk."""

import json
from pathlib import Path

import pytest
import torch

from shared.errors import ClassMissing, DataUnusable, ModelDigestMismatch, PlanImpossible, RunMismatch, SubjectsLeak
from shared.releases import MANIFEST, WEIGHTS, file_sha256, read
from tests.painted import write_painted_store
from training import rounds
from training.card import CARD
from training.datasets import read_clips
from training.evaluate import evaluate
from training.export import read_release_network
from training.plan import Design, NoiseStrengths, Plan, PseudoLabelling, Recipe, Source, Stretch
from training.record import CANDIDATE, RECORD, REPORT, read_record
from training.rounds import run_plan


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    write_painted_store(folder / "labelled", 210)
    write_painted_store(folder / "unlabelled", 140, seed=1, labelled=False)
    write_painted_store(folder / "frozen", 70, seed=2)
    return folder


@pytest.fixture
def plan(stores: Path, recipe: Recipe, noise: NoiseStrengths) -> Plan:
    weak = recipe.model_copy(update={"stretches": (Stretch(epochs=5, size=32),)})
    return Plan(
        name="painted",
        labelled=(Source(store=stores / "labelled", held_out=0.2),),
        unlabelled=(Source(store=stores / "unlabelled"),),
        frozen=(stores / "frozen",),
        teacher_recipe=weak,
        student_recipes=(recipe, weak),
        noise=noise,
        teacher_noise=noise,
        pseudo_labelling=PseudoLabelling(threshold=0.2),
        rounds=2,
        notes="painted faces only",
    )


def changed(plan: Plan, **values: object) -> Plan:
    return Plan.model_validate(plan.model_dump() | values)


def test_a_run_leaves_its_rounds_a_report_and_a_candidate_that_is_what_it_says(plan: Plan, stores: Path, tmp_path: Path) -> None:
    record = run_plan(plan, tmp_path)
    assert record.finished
    assert read_record(tmp_path) == record
    first, second = record.rounds[:2]
    assert (first.number, first.teacher, first.gain, first.became_champion) == (0, None, None, True)
    assert (second.number, second.teacher, second.unlabelled) == (1, "round-0", 140)
    assert sum(second.confident.values()) <= 140
    assert second.gain is not None
    assert second.became_champion == (second.gain.low > 0)
    assert set(second.measured) == {"frozen", "labelled"}
    assert record.champion == max(one.number for one in record.rounds if one.became_champion)
    assert "Round 1" in (tmp_path / REPORT).read_text()
    lines = [json.loads(line) for line in (tmp_path / "round-1" / "labels.jsonl").read_text().splitlines()]
    assert sum(line["times"] for line in lines) == sum(second.balanced.values())
    assert {line["pseudo_labeller"] for line in lines} == {"round-0"}

    folder = tmp_path / CANDIDATE
    release = read(folder / MANIFEST)
    assert (release.version, release.parent, release.size, release.width, release.notes) == (1, None, 32, 0.125, "painted faces only")
    assert release.files == {name: file_sha256(folder / name) for name in (WEIGHTS, CARD)}
    network = read_release_network(release, folder / WEIGHTS)
    assert release.metrics["frozen"] == evaluate(network, read_clips(stores / "frozen")).figures()
    assert {(data.name, data.use, data.held_out) for data in release.data} == {
        ("labelled", "train", 0.2),
        ("unlabelled", "unlabelled", 0.0),
        ("labelled", "validation", 0.2),
        ("frozen", "validation", 0.0),
    }
    assert str(stores) not in release.model_dump_json(), "a release tells nothing of the machine that trained it"


def test_a_run_that_is_started_again_does_nothing_twice(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run_plan(plan, tmp_path)
    monkeypatch.setattr(rounds, "fit", None)
    assert run_plan(plan, tmp_path) == record


def test_a_run_that_was_killed_between_rounds_ends_with_the_same_numbers(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_plan(plan, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def dies(*_args: object, **_kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "fit_student", dies)
        with pytest.raises(Killed):
            run_plan(plan, tmp_path / "killed")
    assert len(read_record(tmp_path / "killed").rounds) == 1
    resumed = run_plan(plan, tmp_path / "killed")
    for mine, theirs in zip(resumed.rounds, whole.rounds, strict=True):
        assert mine.model_copy(update={"minutes": 0}) == theirs.model_copy(update={"minutes": 0})
    candidates = [file_sha256(tmp_path / name / CANDIDATE / WEIGHTS) for name in ("whole", "killed")]
    assert candidates[0] == candidates[1]


def test_the_run_stops_at_the_first_student_that_is_not_better(plan: Plan, tmp_path: Path) -> None:
    hopeless = plan.student_recipes[0].model_copy(update={"learning_rate": 1e-9})
    record = run_plan(changed(plan, student_recipes=(hopeless,), rounds=5), tmp_path)
    assert [one.became_champion for one in record.rounds] == [True, False]
    assert record.champion == 0
    assert record.why == "round 1 did not beat the champion"
    assert read(tmp_path / CANDIDATE / MANIFEST).training["champion"] == "round-0"


def test_a_release_can_be_the_first_teacher(plan: Plan, tmp_path: Path) -> None:
    run_plan(changed(plan, rounds=0), tmp_path / "first")
    teacher = tmp_path / "first" / CANDIDATE
    record = run_plan(changed(plan, teacher=teacher, rounds=1), tmp_path / "second")
    assert record.rounds[0].why.startswith("mien_000001")
    assert record.rounds[1].teacher == "mien_000001"
    if record.rounds[1].became_champion:
        release = read(tmp_path / "second" / CANDIDATE / MANIFEST)
        assert (release.version, release.parent) == (2, 1)
    else:
        assert not (tmp_path / "second" / CANDIDATE).exists(), "the teacher is a release already"


def test_a_teacher_whose_weights_were_changed_teaches_nothing(plan: Plan, tmp_path: Path) -> None:
    run_plan(changed(plan, rounds=0), tmp_path / "first")
    teacher = tmp_path / "first" / CANDIDATE
    (teacher / WEIGHTS).write_bytes((teacher / WEIGHTS).read_bytes()[:-1] + b"?")
    with pytest.raises(ModelDigestMismatch):
        run_plan(changed(plan, teacher=teacher), tmp_path / "second")


def test_a_round_that_comes_to_nothing_does_not_cost_the_champion(plan: Plan, tmp_path: Path) -> None:
    unsure = PseudoLabelling(threshold=1.0)
    record = run_plan(changed(plan, pseudo_labelling=unsure), tmp_path)
    assert record.finished
    assert record.why.startswith("round 1 came to nothing: The teacher is sure of no unlabelled clip.")
    assert read(tmp_path / CANDIDATE / MANIFEST).training["champion"] == "round-0"


def test_a_student_may_begin_with_its_teachers_weights(plan: Plan, tmp_path: Path) -> None:
    still = plan.student_recipes[0].model_copy(update={"from_teacher": True, "learning_rate": 1e-9})
    record = run_plan(changed(plan, student_recipes=(still,), rounds=1), tmp_path)
    teacher, student = record.rounds
    assert student.measured["frozen"].accuracy == pytest.approx(teacher.measured["frozen"].accuracy, abs=0.1)
    assert student.measured["frozen"].accuracy > 0.4


def test_a_folder_of_another_plan_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    run_plan(changed(plan, rounds=0), tmp_path)
    before = (tmp_path / RECORD).read_bytes()
    with pytest.raises(RunMismatch, match="another plan"):
        run_plan(changed(plan, rounds=0, seed=2), tmp_path)
    assert (tmp_path / RECORD).read_bytes() == before


def test_plans_that_contradict_themselves_or_their_data_are_refused_before_anything_is_fitted(
    plan: Plan, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "fit", None)
    narrow = Recipe(design=Design(width=0.125), stretches=(Stretch(epochs=1, size=32),))
    wide = narrow.model_copy(update={"design": Design(width=0.25)})
    once = write_painted_store(tmp_path / "once" / "labelled", 6)
    for refused, values, words in (
        (PlanImpossible, {"unlabelled": ()}, "unlabelled"),
        (PlanImpossible, {"frozen": (), "labelled": (Source(store=stores / "labelled"),)}, "measured"),
        (
            PlanImpossible,
            {"teacher_recipe": narrow.model_copy(update={"stretches": (Stretch(epochs=1, size=64),)})},
            "more than the 32 pixels",
        ),
        (PlanImpossible, {"teacher_recipe": wide, "student_recipes": (narrow,)}, "narrower"),
        (DataUnusable, {"frozen": (stores / "nowhere",)}, "no crop store"),
        (SubjectsLeak, {"frozen": (stores / "labelled",), "labelled": (Source(store=stores / "labelled"),)}, "person"),
        (ClassMissing, {"labelled": (Source(store=once),)}, "surprise"),
    ):
        with pytest.raises(refused, match=words):
            run_plan(changed(plan, **values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_with_parts_left_out_never_becomes_a_candidate(plan: Plan, tmp_path: Path) -> None:
    eyes = plan.teacher_recipe.model_copy(update={"design": Design(width=0.125, regions=("eyes",))})
    with pytest.raises(PlanImpossible, match="all regions"):
        run_plan(changed(plan, teacher_recipe=eyes, rounds=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_colour_and_grey_are_the_same_to_what_was_trained(plan: Plan, stores: Path, tmp_path: Path) -> None:
    run_plan(changed(plan, rounds=0), tmp_path)
    release = read(tmp_path / CANDIDATE / MANIFEST)
    network = read_release_network(release, tmp_path / CANDIDATE / WEIGHTS)
    coloured = torch.randint(0, 256, (3, 3, 3, 32, 32), dtype=torch.uint8)
    grey = (coloured * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 1, 3, 1, 1)).sum(dim=2).round().to(torch.uint8)
    with torch.inference_mode():
        counts = torch.ones(3, dtype=torch.int64)
        torch.testing.assert_close(network(coloured.flatten(1, 2), counts), network(grey, counts), atol=0.02, rtol=0.02)

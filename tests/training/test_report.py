"""report.md says what `record.json` holds, and whether the student was any better."""

from pathlib import Path

from shared.expressions import LABELS
from training.plan import Plan, Source
from training.record import Gain, Measured, Record, Round
from training.report import confusion_table, lessons_table, render

PLAN = Plan(name="spring", labelled=(Source(store=Path("/secret/home/faces")),), unlabelled=(Source(store=Path("/secret/more")),))

MEASURED = Measured(
    samples=210,
    accuracy=0.7143,
    macro_f1=0.6912,
    mean_recall=0.7001,
    calibration_error=0.0432,
    recall={label: 0.5 + place / 100 for place, label in enumerate(LABELS) if label != "fear"},
    confusion=tuple(tuple(100 * row + column for column in range(7)) for row in range(7)),
)
TEACHER = Round(number=0, parameters=123456, measured={"acted": MEASURED}, became_champion=True, why="The first teacher.", minutes=2.0)
STUDENT = Round(
    number=1,
    teacher="round-0",
    parameters=123456,
    unlabelled=5390,
    confident={"happy": 1500, "neutral": 1200, "fear": 7},
    balanced={"happy": 400, "neutral": 400, "fear": 35},
    measured={"acted": MEASURED.model_copy(update={"accuracy": 0.7381})},
    gain=Gain(macro_f1=0.0123, low=0.0021, high=0.0234, accuracy=0.0238),
    became_champion=True,
    why="The gain's interval lies above zero.",
    minutes=3.5,
)
RECORD = Record(name="spring", rounds=(TEACHER, STUDENT), champion=1, finished=True, why="it had 1 rounds")


def test_the_outcome_comes_first() -> None:
    lines = render(RECORD, PLAN).splitlines()
    assert lines[0] == "# Run spring"
    assert lines[2] == "The best network is round 1's. The run is finished: it had 1 rounds"


def test_a_run_that_is_not_finished_says_so() -> None:
    assert "No network is finished yet. The run is not finished." in render(Record(name="spring"), PLAN)


def test_a_student_that_beat_its_teacher_is_said_to_have_by_how_much() -> None:
    report = render(RECORD, PLAN)
    assert "**The student beat its teacher.** Its gain in macro-F1 is +1.2 points (+0.2 to +2.3 with 90.0 % confidence)" in report
    assert "in accuracy +2.4. The gain's interval lies above zero." in report


def test_a_student_that_did_not_is_said_not_to_have_and_why() -> None:
    lost = STUDENT.model_copy(
        update={"became_champion": False, "gain": Gain(macro_f1=0.002, low=-0.01, high=0.012, accuracy=0), "why": "Zero lies within."}
    )
    report = render(Record(name="spring", rounds=(TEACHER, lost), champion=0), PLAN)
    assert "**The student did not beat its teacher.** Its gain in macro-F1 is +0.2 points (-1.0 to +1.2" in report
    assert "Zero lies within." in report
    assert "The best network is round 0's." in report


def test_every_round_is_a_row_of_the_set_it_was_measured_on() -> None:
    report = render(RECORD, PLAN)
    assert "## On acted" in report
    assert "| 0 | 210 | 71.4 % | 69.1 % | 70.0 % | 4.3 % |" in report
    assert "| 1 | 210 | 73.8 % | 69.1 % | 70.0 % | 4.3 % |" in report


def test_class_sizes_before_and_after_balancing() -> None:
    rows = lessons_table(STUDENT).splitlines()
    assert "| happy | 1,500 | 400 |" in rows
    assert "| fear | 7 | 35 |" in rows
    assert "| sad | 0 | 0 |" in rows
    assert rows[-1] == "| all | 2,707 | 835 |"
    assert lessons_table(STUDENT) in render(RECORD, PLAN)


def test_confusion_has_truth_down_and_verdicts_across() -> None:
    rows = confusion_table(MEASURED).splitlines()
    assert rows[0] == "| truth \\ verdict | " + " | ".join(LABELS) + " |"
    assert rows[3] == "| disgust | 100 | 101 | 102 | 103 | 104 | 105 | 106 |"
    assert confusion_table(MEASURED) in render(RECORD, PLAN)


def test_recall_per_class_and_a_dash_for_what_the_set_lacks() -> None:
    report = render(RECORD, PLAN)
    assert "| angry | 50.0 % |" in report
    assert "| fear | - |" in report


def test_a_teacher_from_outside_was_not_fitted_here_and_learnt_from_no_pseudo_labels() -> None:
    given = TEACHER.model_copy(update={"minutes": 0.0, "why": "mien_000001 was given as the first teacher."})
    report = render(Record(name="spring", rounds=(given,), champion=0), PLAN)
    assert "123,456 parameters.\n" in report
    assert "fitted in" not in report
    assert "before balancing" not in report


def test_no_path_of_a_machine_is_told() -> None:
    assert "/secret" not in render(RECORD, PLAN)

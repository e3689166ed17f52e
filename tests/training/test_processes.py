"""Several processes are of one mind: the one that leads decides, whatever the others would have said."""

import os
import subprocess
import sys
from pathlib import Path

from tests.painted import write_painted_store
from training.record import Record, read_record

REPOSITORY = Path(__file__).parents[2]

OF_TWO_MINDS = """
import dataclasses
import sys
from pathlib import Path
from shared.errors import TeacherUnsure
from tests.tiny_runs import tiny_plan
from training import pseudo_labels, rounds
from training.processes import Processes
from training.stores import placed

home = Path(sys.argv[1])
plan = placed(tiny_plan(rounds=1, confidence=0.51), crops=home / "crops", models=home, version=1)
plan = plan.model_copy(update={"pseudo_labelling": plan.pseudo_labelling.model_copy(update={"soften_labels": 0.5})})

def never(_):
    def decided(*arguments, **options):
        raise AssertionError("only the one that leads is asked")
    return decided

def unsure():
    raise TeacherUnsure("of everything")

with Processes.joined() as processes:
    assert processes.agreed(lambda: f"by {processes.rank}") == "by 0"
    try:
        processes.agreed(unsure)
        raise AssertionError("nobody was told")
    except TeacherUnsure as error:
        assert error.detail == "of everything"
    if not processes.leads:
        rounds.gain, rounds.evaluate, pseudo_labels.scores_of = map(never, (rounds.gain, rounds.evaluate, pseudo_labels.scores_of))
    record = rounds.run_plan(plan, home / "run", processes=processes)
    (home / f"{processes.rank}.json").write_text(record.model_dump_json())
"""


def test_pseudo_labels_marks_and_verdict_are_the_leaders(tmp_path: Path) -> None:
    for name, count, labelled in (("painted", 56, True), ("judge", 28, True), ("strangers", 28, False)):
        write_painted_store(tmp_path / "crops" / name, count, seed=count, labelled=labelled)
    script = tmp_path / "two.py"
    script.write_text(OF_TWO_MINDS)
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [*torchrun, str(script), str(tmp_path)], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (Record.model_validate_json((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first.rounds[1].gain is not None
    assert second.model_copy(update={"rounds": ()}) == first.model_copy(update={"rounds": ()})
    assert [each.model_copy(update={"minutes": 0}) for each in second.rounds] == [
        each.model_copy(update={"minutes": 0}) for each in first.rounds
    ]
    assert read_record(tmp_path / "run") == first

"""The registry of runs: what it promises, whoever dies."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import (
    AttemptsExhausted,
    DataUnusable,
    InsufficientStorage,
    InternalError,
    PublicationNotFound,
    RunConflict,
    RunMismatch,
    RunNotFound,
    StorageError,
)
from shared.jobs import Failure, JobState
from tests.tiny_runs import learn, tiny_plan
from training.ledger import STATE
from training.publications import Publications
from training.record import RECORD, Record, Round
from training.runs import Run, Runs, id_of_plan
from training.work import work

PLAN = tiny_plan(epochs=4, rounds=2)
UNKNOWN = "tr_" + "0" * 32


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", models=tmp_path / "models")


def record_of(*numbers: int) -> Record:
    rounds = tuple(Round(number=number, measured={}, became_champion=True, why="It is the first.", minutes=0.1) for number in numbers)
    return Record(name="tiny", rounds=rounds, champion=0)


# --- what is promised ----------------------------------------------------------------------------------------------


def test_a_run_is_kept_as_it_was_asked_for(runs: Runs) -> None:
    run = runs.accept(PLAN)
    assert (run.state, run.plan, run.attempts) == (JobState.QUEUED, PLAN, 0)
    assert Runs(runs.root, models=runs.root).get(run.id) == run


def test_the_newest_is_listed_first_and_no_two_share_a_millisecond(runs: Runs) -> None:
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda _: runs.accept(PLAN), range(40)))
    listed = runs.all()
    assert {run.id for run in listed} == {run.id for run in accepted}
    times = [run.created_ms for run in listed]
    assert times == sorted(set(times), reverse=True)


def test_every_candidate_gets_a_version_of_its_own_above_all_that_are_published(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "models" / "mien_000006").mkdir(parents=True)
    (tmp_path / "models" / "mien_000006" / "release.json").write_text("{}")
    with ThreadPoolExecutor(8) as pool:
        versions = sorted(run.version for run in pool.map(lambda _: runs.accept(PLAN), range(8)))
    assert versions == list(range(7, 15))
    assert runs.accept(PLAN.model_copy(update={"version": 3})).version == 3


def test_the_same_id_and_plan_are_the_same_run_and_another_plan_is_refused(runs: Runs) -> None:
    first = runs.accept(PLAN, run_id=id_of_plan(PLAN))
    assert runs.accept(PLAN, run_id=id_of_plan(PLAN)) == first
    with pytest.raises(RunMismatch):
        runs.accept(tiny_plan(epochs=3), run_id=first.id)
    assert len(runs.all()) == 1


@pytest.mark.parametrize("name", [UNKNOWN, "", "..", "tr_", "../" + UNKNOWN, UNKNOWN + "/..", "pb_" + "0" * 32])
def test_what_is_no_run_is_not_found(runs: Runs, name: str) -> None:
    runs.accept(PLAN)
    with pytest.raises(RunNotFound):
        runs.get(name)


def test_an_entry_that_cannot_be_read_hides_no_other(runs: Runs) -> None:
    broken, whole = runs.accept(PLAN), runs.accept(PLAN)
    (runs.folder(broken.id) / STATE).write_text("{")
    assert [run.id for run in runs.all()] == [whole.id]
    with pytest.raises(StorageError):
        runs.get(broken.id)


def test_what_a_killed_process_left_half_made_or_half_deleted_goes(runs: Runs) -> None:
    run = runs.accept(PLAN)
    for leftover in (".new-1", ".deleted-2"):
        (runs.root / leftover).mkdir()
        (runs.root / leftover / "file").touch()
    runs.prepare()
    assert sorted(path.name for path in runs.root.iterdir()) == [".lock", run.id]


# --- from state to state -------------------------------------------------------------------------------------------


def test_from_acceptance_to_success(runs: Runs) -> None:
    run = runs.accept(PLAN)
    done = work(runs, run.id, lambda _: {})
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 1)
    assert done.ended_ms is not None
    assert done.started_ms is not None
    assert done.created_ms <= done.started_ms <= done.ended_ms


def test_an_error_of_ours_is_the_runs_failure_and_a_bug_is_not_told(runs: Runs) -> None:
    def no_data(_: Run) -> dict[str, object]:
        raise DataUnusable("no faces in it")

    def full(_: Run) -> dict[str, object]:
        raise OSError(28, "No space left on device")

    def bug(_: Run) -> dict[str, object]:
        raise KeyError("secret")

    for task, expected in ((no_data, DataUnusable("no faces in it")), (full, InsufficientStorage("No space left on device"))):
        failed = work(runs, runs.accept(PLAN).id, task)
        assert (failed.state, failed.failure) == (JobState.FAILED, Failure.of(expected))
    failure = work(runs, runs.accept(PLAN).id, bug).failure
    assert failure is not None
    assert failure.code == InternalError.code()
    assert "secret" not in failure.model_dump_json()


def test_what_the_death_of_another_process_raises_here_is_no_failure(runs: Runs) -> None:
    def left_alone(_: Run) -> dict[str, object]:
        raise RuntimeError("Connection closed by peer")

    run = runs.accept(PLAN)
    with pytest.raises(RuntimeError):
        work(runs, run.id, left_alone, alone=False)
    assert (runs.get(run.id).state, runs.is_held(run.id)) == (JobState.RUNNING, False)
    assert (runs.died(run.id, "with exit status 1").state, runs.get(run.id).deaths) == (JobState.QUEUED, 1)


def test_whoever_is_told_to_stop_hands_the_run_back(runs: Runs) -> None:
    def stopped(_: Run) -> dict[str, object]:
        raise SystemExit(75)

    run = runs.accept(PLAN)
    with pytest.raises(SystemExit):
        work(runs, run.id, stopped)
    assert (runs.get(run.id).state, runs.get(run.id).deaths) == (JobState.QUEUED, 0)
    assert work(runs, run.id, lambda _: {}).attempts == 2


def test_only_one_process_works_on_a_run(runs: Runs) -> None:
    run = runs.accept(PLAN)
    with runs.hold(run.id):
        assert runs.is_held(run.id)
        with pytest.raises(RunConflict):
            work(runs, run.id, lambda _: {})
    assert not runs.is_held(run.id)
    assert runs.get(run.id).attempts == 0


def test_the_lock_goes_with_the_process_that_held_it(runs: Runs) -> None:
    run = runs.accept(PLAN)
    script = (
        "import sys, pathlib; from training.runs import Runs\n"
        "runs = Runs(pathlib.Path(sys.argv[1]), models=pathlib.Path(sys.argv[1]))\n"
        "with runs.hold(sys.argv[2]):\n"
        "    runs.begin(sys.argv[2]); print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", script, str(runs.root), run.id]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert runs.is_held(run.id)
        process.kill()
    assert not runs.is_held(run.id)
    assert runs.died(run.id, "by SIGKILL").state is JobState.QUEUED


def test_a_run_that_keeps_dying_fails(runs: Runs) -> None:
    run = runs.accept(PLAN)
    states = []
    for _ in range(3):
        runs.begin(run.id)
        states.append(runs.died(run.id, "by SIGKILL"))
    assert [run.state for run in states] == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    failure = states[-1].failure
    assert failure is not None
    assert failure.code == AttemptsExhausted.code()
    assert "by SIGKILL" in failure.detail


def test_a_death_after_progress_is_the_first_one_again(runs: Runs) -> None:
    run = runs.accept(PLAN)
    for epochs in range(6):
        runs.begin(run.id)
        learn(runs, run, number=0, epochs=epochs)
        died = runs.died(run.id, "by SIGKILL")
        assert (died.state, died.deaths) == (JobState.QUEUED, 1)


def test_canceling(runs: Runs) -> None:
    queued = runs.accept(PLAN)
    assert runs.cancel(queued.id).state is JobState.CANCELED
    assert runs.cancel(queued.id).state is JobState.CANCELED
    with pytest.raises(RunConflict):
        runs.begin(queued.id)

    left = runs.accept(PLAN)
    runs.begin(left.id)
    assert runs.cancel(left.id).state is JobState.CANCELED, "nobody works on it, so nobody has to stop"

    done = work(runs, runs.accept(PLAN).id, lambda _: {})
    with pytest.raises(RunConflict):
        runs.cancel(done.id)


def test_a_running_one_is_told_to_stop_and_then_is_canceled(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(os, "kill", lambda pid, number: (pid, number) == (os.getpid(), signal.SIGTERM) and told.set())

    def until_told(run: Run) -> dict[str, object]:
        assert runs.cancel(run.id).cancel_requested
        assert runs.get(run.id).state is JobState.RUNNING
        assert told.wait(10)
        raise SystemExit(75)

    run = runs.accept(PLAN)
    with pytest.raises(SystemExit):
        work(runs, run.id, until_told)
    assert runs.get(run.id).state is JobState.CANCELED


def test_resuming(runs: Runs) -> None:
    run = runs.accept(PLAN)
    assert runs.resume(run.id) == run, "it goes on anyway"
    runs.cancel(run.id)
    resumed = runs.resume(run.id)
    assert (resumed.state, resumed.ended_ms, resumed.failure, resumed.cancel_requested) == (JobState.QUEUED, None, None, False)
    done = work(runs, run.id, lambda _: {})
    with pytest.raises(RunConflict):
        runs.resume(done.id)


def test_only_what_has_ended_is_deleted_and_then_all_of_it(runs: Runs) -> None:
    run = runs.accept(PLAN)
    with pytest.raises(RunConflict):
        runs.delete(run.id)
    runs.cancel(run.id)
    runs.delete(run.id)
    with pytest.raises(RunNotFound):
        runs.get(run.id)
    assert [path.name for path in runs.root.iterdir()] == [".lock"]


# --- what is told about a run --------------------------------------------------------------------------------------


def test_progress_follows_the_rounds(runs: Runs) -> None:
    run = runs.accept(PLAN)
    folder = runs.folder(run.id)

    def at() -> tuple[int, int, int, int]:
        now = runs.status(run.id).progress
        return now.round, now.rounds, now.epoch, now.epochs

    assert at() == (0, 2, 0, 4)
    learn(runs, run, number=0, epochs=3)
    assert at() == (0, 2, 3, 4)
    assert runs.status(run.id).progress.latest == {"epoch": 2, "loss": 1 / 3}
    (folder / RECORD).write_text(record_of(0).model_dump_json())
    assert at() == (1, 2, 0, 4)
    learn(runs, run, number=1, epochs=4)
    (folder / RECORD).write_text(record_of(0, 1).model_dump_json())
    runs.begin(run.id)
    runs.succeed(run.id)
    assert at() == (1, 2, 4, 4), "a run that stops early ends in the round that it stopped after"
    assert [(epoch.round, epoch.epoch) for epoch in runs.epochs(run.id)] == [*((0, n) for n in (1, 2, 3)), *((1, n) for n in (1, 2, 3, 4))]


def test_a_line_that_is_being_written_is_not_an_epoch_yet(runs: Runs) -> None:
    run = runs.accept(PLAN)
    learn(runs, run, number=0, epochs=2)
    with (runs.folder(run.id) / "round-0" / "history.jsonl").open("a") as history:
        history.write('{"epoch": 2, "lo')
    assert len(runs.epochs(run.id)) == 2


def test_a_candidate_is_there_once_the_run_has_left_one(runs: Runs) -> None:
    run = runs.accept(PLAN)
    with pytest.raises(RunConflict):
        runs.candidate(run.id)
    work(runs, run.id, lambda _: {})
    with pytest.raises(RunConflict, match="no candidate"):
        runs.candidate(run.id)
    (runs.folder(run.id) / "candidate").mkdir()
    assert runs.candidate(run.id) == runs.folder(run.id) / "candidate"


def test_publications_are_kept_beside_the_runs(runs: Runs) -> None:
    publications = Publications(runs.root)
    run, publication = runs.accept(PLAN), publications.accept(UNKNOWN, promote=False)
    assert ([each.id for each in runs.all()], [each.id for each in publications.all()]) == ([run.id], [publication.id])
    assert work(publications, publication.id, lambda _: {"version": 7}).version == 7
    assert publications.get(publication.id).version == 7
    with pytest.raises(PublicationNotFound):
        publications.get(run.id)

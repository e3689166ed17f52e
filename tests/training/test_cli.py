"""`python -m training`, as a person or a script calls it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.jobs import JobState
from shared.releases import read
from shared.signatures import Signer
from tests.random_release import write_random_release
from tests.tiny_runs import command, environment, tiny_plan, write_crops
from training.plan import Plan
from training.publications import Publications
from training.runs import Runs, id_of_plan
from training.work import work

ENDS_WITHIN_S = 120
HANDED_BACK = 75
LONG = tiny_plan(epochs=500)


class Shell:
    """A folder with crops, and the command line in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runs = Runs(home / "runs", models=home / "models")
        self.environment = environment(home)
        write_crops(home / "crops")

    def plan(self, plan: Plan) -> str:
        path = self.home / f"{plan.name}.json"
        path.write_text(plan.model_dump_json(exclude_defaults=True))
        return str(path)

    def __call__(self, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command(*arguments), env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
        )
        assert done.returncode == status, done.stderr
        return done

    def together(self, *arguments: str) -> None:
        """Run a command in two processes."""
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "training"]
        done = subprocess.run(
            [*torchrun, *arguments],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status).stdout)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(command(*arguments), env=self.environment, cwd=self.home, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell with a run that has succeeded, and a key that signed what it left; not to be changed."""
    shell = Shell(tmp_path_factory.mktemp("trained"))
    (shell.home / "private.pem").write_bytes(Signer.generate().pem())
    shell.environment["MIEN_SIGNING_KEY"] = str(shell.home / "private.pem")
    write_random_release(shell.home / "models" / "mien_000001")
    shell("run", shell.plan(tiny_plan(epochs=2, rounds=1)))
    return shell


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- one command from a plan to a candidate ------------------------------------------------------------------------


def test_one_command_goes_from_a_plan_to_a_signed_candidate(trained: Shell) -> None:
    (run,) = trained.runs.all()
    assert (run.state, run.attempts) == (JobState.SUCCEEDED, 1)
    candidate = trained.runs.candidate(run.id)
    assert read(candidate / "release.json").version == run.version == 2
    signer = Signer.load(trained.home / "private.pem")
    assert signer.trusted.check(candidate) == (candidate / "release.json").read_bytes()
    record = trained.runs.record(run.id)
    assert record is not None
    assert [each.number for each in record.rounds] == [0, 1]


def test_the_same_command_again_does_nothing_anew(trained: Shell) -> None:
    before = trained.runs.all()
    assert trained.json("run", trained.plan(tiny_plan(epochs=2, rounds=1)))["state"] == "succeeded"
    assert trained.runs.all() == before


def test_a_run_that_was_told_to_stop_goes_on_where_it_stood(shell: Shell) -> None:
    plan = tiny_plan(epochs=12)
    with shell.start("run", shell.plan(plan)) as process:
        until(lambda: len(shell.runs.epochs(id_of_plan(plan))) >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == HANDED_BACK
    run = shell.runs.get(id_of_plan(plan))
    begun = shell.runs.epochs(run.id)
    assert (run.state, run.deaths) == (JobState.QUEUED, 0)
    assert 2 <= len(begun) < 12
    status = shell.json("run", run.id)
    assert (status["state"], status["attempts"]) == ("succeeded", 2)
    assert shell.runs.epochs(run.id)[: len(begun)] == begun


def test_a_run_is_canceled_from_another_terminal_and_resumed(shell: Shell) -> None:
    with shell.start("run", shell.plan(LONG)) as process:
        until(lambda: bool(shell.runs.all()) and shell.runs.is_held(id_of_plan(LONG)))
        until(lambda: shell.runs.get(id_of_plan(LONG)).state is JobState.RUNNING)
        busy = shell("run", id_of_plan(LONG), status=1)
        assert busy.stderr == "run-conflict: The training run is not in a state that allows this. another process works on it\n"
        assert shell.json("runs", "cancel", id_of_plan(LONG))["cancel_requested"]
        assert process.wait(30) == HANDED_BACK
    (run,) = shell.json("runs", "list")
    assert run["state"] == "canceled"
    assert shell.json("runs", "resume", run["id"])["state"] == "queued"
    shell("runs", "cancel", run["id"])
    shell("runs", "delete", run["id"])
    assert shell.json("runs", "list") == []


def test_a_run_that_was_canceled_before_its_process_began_stays_canceled(shell: Shell) -> None:
    """The service starts `run ID`; that somebody cancels the run meanwhile is not undone by it."""
    run = shell.runs.accept(LONG)
    shell.runs.cancel(run.id)
    assert shell.json("run", run.id, status=1)["code"] == "run-conflict"
    assert (shell.runs.get(run.id).state, shell.runs.get(run.id).attempts) == (JobState.CANCELED, 0)


def test_two_processes_share_a_run(shell: Shell) -> None:
    shell.together("run", shell.plan(tiny_plan(epochs=2)))
    (run,) = shell.runs.all()
    assert (run.state, run.attempts, len(shell.runs.epochs(run.id))) == (JobState.SUCCEEDED, 1, 2)


def test_two_processes_have_nothing_to_do_for_a_run_that_has_succeeded(shell: Shell) -> None:
    plan = tiny_plan()
    done = work(shell.runs, shell.runs.accept(plan, run_id=id_of_plan(plan)).id, lambda _: {})
    shell.together("run", shell.plan(plan))
    assert shell.runs.get(done.id) == done


# --- what it says --------------------------------------------------------------------------------------------------


def test_runs_are_listed_shown_and_watched(trained: Shell) -> None:
    (run,) = trained.json("runs", "list")
    assert (run["state"], run["progress"]["rounds"]) == ("succeeded", 1)
    shown = trained.json("runs", "show", run["id"])
    assert shown["record"]["finished"]
    assert trained.json("runs", "show", str(trained.home / "runs" / run["id"])) == shown
    watched = trained("runs", "watch", run["id"]).stdout
    assert [line.split("  ")[0] for line in watched.splitlines() if "loss" in line] == [
        "round 0 epoch 1",
        "round 0 epoch 2",
        "round 1 epoch 1",
        "round 1 epoch 2",
    ]
    assert run["id"] in trained("runs", "list").stdout


def test_stores_and_releases_are_listed(trained: Shell) -> None:
    assert [store["store"] for store in trained.json("stores")] == ["judge", "painted", "strangers"]
    assert [release["version"] for release in trained.json("releases", "list")] == [1]
    assert trained.json("releases", "show", "1")["version"] == 1
    comparison = trained.json("releases", "compare", "1", "1")
    assert comparison["differences"] == []
    assert "mien" not in trained("releases", "compare", "1", "1").stderr


def test_a_release_that_cannot_be_read_hides_no_other(shell: Shell) -> None:
    for version in (1, 2):
        write_random_release(shell.home / "models" / f"mien_{version:06}")
    (shell.home / "models" / "mien_000001" / "release.json").write_text("{")
    listed = shell("releases", "list", "--json")
    assert len(json.loads(listed.stdout)) == 1
    assert "mien_000001 cannot be read: model-contract-mismatch\n" in listed.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("runs", "show", "tr_" + "0" * 32), "run-not-found"),
        (("publish", "tr_" + "0" * 32), "run-not-found"),
        (("publish", "pb_" + "0" * 32), "publication-not-found"),
        (("run", "nowhere.json"), "run-not-found"),
        (("releases", "show", "7"), "model-version-unavailable"),
        (("rollback",), "key-unusable"),
    ],
)
def test_an_error_is_one_line_that_begins_with_its_code(shell: Shell, arguments: tuple[str, ...], code: str) -> None:
    told = shell(*arguments, status=1).stderr
    assert told.startswith(f"{code}: ")
    assert told.count("\n") == 1
    assert shell.json(*arguments, status=1)["code"] == code


def test_a_plan_that_cannot_be_run_says_where(shell: Shell) -> None:
    (shell.home / "plan.json").write_text('{"name": "Bad Name", "labelled": []}')
    told = shell("run", "plan.json", status=1).stderr
    assert told.startswith("plan-impossible: ")
    assert "name: " in told
    assert "labelled: " in told


def test_a_store_that_is_not_there_fails_the_run_and_putting_it_there_mends_it(shell: Shell) -> None:
    (shell.home / "crops" / "judge").rename(shell.home / "judge")
    plan = shell.plan(tiny_plan())
    failed = shell.json("run", plan, status=1)
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "data-unusable")
    (shell.home / "judge").rename(shell.home / "crops" / "judge")
    assert shell.json("run", plan)["state"] == "succeeded"


def test_publications_are_listed_shown_and_canceled(shell: Shell) -> None:
    publications = Publications(shell.home / "runs")
    waiting, named = (publications.accept("tr_" + "0" * 32, promote=True).id for _ in range(2))
    publications.begin(named)
    publications.commit(named)
    assert [each["id"] for each in shell.json("publications", "list")] == [named, waiting]
    assert shell.json("publications", "cancel", waiting)["state"] == "canceled"
    assert shell.json("publications", "cancel", named, status=1)["code"] == "publication-over"
    assert shell("publications", "show", named).stdout.split() == [named, "running", "of", "tr_" + "0" * 32]


def test_looking_around_takes_no_torch(shell: Shell) -> None:
    script = "import sys; from training.__main__ import main; status = main(['runs', 'list']); print(status, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=shell.environment, capture_output=True, text=True, check=True)
    assert done.stdout == "no runs\n0 False\n"

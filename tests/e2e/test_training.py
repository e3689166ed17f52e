"""The whole training road on the real stack: from crops to a run, to the release that judges the next video, and back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.stack import Stack
from deploy.triton.server import TritonMissing, find_libpython, find_wheel
from tests.e2e.conftest import Mien
from tests.painted import write_painted_store
from tests.random_release import write_random_release
from tests.tiny_runs import tiny_plan
from training.plan import Plan, Source

ENDS_WITHIN_S = 120
FINAL = {"succeeded", "failed", "canceled"}


class Engineer:
    """A client of the training service that knows nothing but its API."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def ended(self, path: str) -> Any:
        """A run or a publication, once it has succeeded."""
        deadline_s = time.monotonic() + ENDS_WITHIN_S
        while (entry := self.get(path))["state"] not in FINAL:
            assert time.monotonic() < deadline_s, f"not in time: {entry}"
            time.sleep(0.1)
        assert entry["state"] == "succeeded", entry
        return entry


def plan() -> Plan:
    """As much of painted faces as the gate asks for, in seconds."""
    tiny = tiny_plan(epochs=2, labelled=(Source(store=Path("painted")),), frozen=(Path("judge"),))
    return tiny.model_copy(update={"teacher_recipe": tiny.teacher_recipe.model_copy(update={"batch": 14})})


@pytest.fixture
def untaught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mien]:
    """A stack of its own, since what it promotes would judge for the others. Its champion has random weights."""
    try:
        find_wheel(), find_libpython()
    except TritonMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    home = tmp_path / "home"
    write_painted_store(home / "crops" / "painted", 280)
    write_painted_store(home / "crops" / "judge", 140, seed=1)
    monkeypatch.setenv("MIEN_FROZEN", "judge")
    release = write_random_release(tmp_path / "weights", size=32, width=0.125)
    with Stack(home=home, release=release, announce=print) as stack, httpx.Client(base_url=stack.url, timeout=30) as http:
        yield Mien(stack=stack, http=http, shipped=False)


@pytest.fixture
def engineer(untaught: Mien) -> Iterator[Engineer]:
    with httpx.Client(base_url=untaught.stack.training_url, timeout=120, trust_env=False) as http:
        yield Engineer(http)


def judged_by(mien: Mien, video: Path) -> int:
    """The release that a video's result names."""
    release: int = mien.result(mien.accepted(video))["model"]["release"]
    return release


def at_a_command_line(mien: Mien, *command: str) -> str:
    """What `python -m training` says to whoever reads the stack's file first, and knows nothing else."""
    reading = ["sh", "-ec", 'set -a; . "$0"; exec "$@"', mien.stack.command_line, sys.executable, "-m", "training", *command]
    unknowing = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    ended = subprocess.run(reading, env=unknowing, capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_run_becomes_the_release_that_judges_and_is_taken_back(untaught: Mien, engineer: Engineer, portrait: Path) -> None:
    assert judged_by(untaught, portrait) == 1
    assert {store["name"] for store in engineer.get("/v1/stores")["stores"]} == {"painted", "judge"}

    run = engineer.post("/v1/runs", json.loads(plan().model_dump_json()))
    engineer.ended(run["links"]["run"])
    accepted = engineer.post("/v1/releases", {"run": run["id"]})
    assert engineer.ended(accepted["links"]["publication"])["version"] == 2
    assert judged_by(untaught, portrait) == 2
    assert untaught.http.get("/v1/models/champion").raise_for_status().json()["version"] == 2

    assert engineer.post("/v1/aliases/champion:rollback") == {"version": 1}
    assert judged_by(untaught, portrait) == 1

    assert "2" in at_a_command_line(untaught, "releases", "list")
    for command, version in (("promote 2", 2), ("rollback", 1)):
        at_a_command_line(untaught, *command.split())
        assert judged_by(untaught, portrait) == version

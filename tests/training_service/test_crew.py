"""The processes that work for the service, and what becomes of their work when they do not do it."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.training.crew import Crew, Foreman, training_command
from shared.errors import AttemptsExhausted
from shared.jobs import FINAL_STATES, JobState
from training.publications import Publication, Publications

RUN = "tr_" + "0" * 32

WORKS = "work(ledger, name, lambda entry: {'version': 7})"
DIES = "ledger.begin(name); os.kill(os.getpid(), signal.SIGKILL)"
SAYS_NOTHING = "sys.exit(3)"
WAITS = "work(ledger, name, lambda entry: time.sleep(60) or {})"
IS_DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from training.publications import Publications
from training.work import work
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
ledger, name = Publications(Path({root!r})), sys.argv[1]
{body}
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Publications:
    return Publications(tmp_path / "runs")


@pytest.fixture
def crew(ledger: Publications) -> Iterator[Callable[..., Crew[Publication]]]:
    """Makes crews whose processes do as they are told here."""
    made = []

    def make(body: str, *, at_once: int = 1, grace_s: float = 10.0) -> Crew[Publication]:
        program = PROGRAM.format(root=str(ledger.root), body=body)
        environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
        made.append(
            Crew(
                ledger,
                command=lambda name: [sys.executable, "-c", program, name],
                environment=environment,
                at_once=at_once,
                grace_s=grace_s,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.stop()


def ticked(crew: Crew[Publication], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        crew.tick()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(ledger: Publications) -> list[JobState]:
    """Oldest first."""
    return [entry.state for entry in reversed(ledger.all())]


def test_what_waits_is_done_one_after_the_other(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    for _ in range(3):
        ledger.accept(RUN, promote=True)
    busy = crew(WORKS)
    seen = set()

    def done() -> bool:
        found = ledger.all()
        seen.add(sum(entry.state is JobState.RUNNING for entry in found))
        return all(entry.state is JobState.SUCCEEDED for entry in found)

    ticked(busy, done)
    assert max(seen) <= 1
    found = list(reversed(ledger.all()))
    assert [entry.version for entry in found] == [7, 7, 7]
    starts = [entry.started_ms or 0 for entry in found]
    assert starts == sorted(starts), "who came first is served first"


@pytest.mark.parametrize(("body", "how"), [(DIES, "by SIGKILL"), (SAYS_NOTHING, "with exit status 3")])
def test_a_process_that_always_dies_fails_its_work_and_nothing_else(
    ledger: Publications, crew: Callable[..., Crew[Publication]], body: str, how: str
) -> None:
    doomed = ledger.accept(RUN, promote=True)
    dying = crew(body)
    ticked(dying, lambda: ledger.get(doomed.id).state in FINAL_STATES)
    failure = ledger.get(doomed.id).failure
    assert failure is not None
    assert (failure.code, ledger.get(doomed.id).deaths) == (AttemptsExhausted.code(), 3)
    assert how in failure.detail
    after = ledger.accept(RUN, promote=True)
    ticked(crew(WORKS), lambda: ledger.get(after.id).state is JobState.SUCCEEDED)


def test_what_a_dead_process_left_running_goes_on(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    left = ledger.accept(RUN, promote=True)
    ledger.begin(left.id)
    ticked(crew(WORKS), lambda: ledger.get(left.id).state is JobState.SUCCEEDED)
    assert (ledger.get(left.id).attempts, ledger.get(left.id).deaths) == (2, 1)


def test_work_in_other_hands_is_left_there(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    theirs, waiting = ledger.accept(RUN, promote=True), ledger.accept(RUN, promote=True)
    idle = crew(WORKS)
    with ledger.hold(theirs.id):
        ledger.begin(theirs.id)
        for _ in range(5):
            idle.tick()
        assert states(ledger) == [JobState.RUNNING, JobState.QUEUED], "theirs counts as one of those at once"
        ledger.succeed(theirs.id)
    ticked(idle, lambda: ledger.get(waiting.id).state is JobState.SUCCEEDED)


def test_stopping_hands_everything_back(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    for _ in range(2):
        ledger.accept(RUN, promote=True)
    busy = crew(WAITS, at_once=2)
    ticked(busy, lambda: states(ledger) == [JobState.RUNNING, JobState.RUNNING])
    busy.stop()
    assert states(ledger) == [JobState.QUEUED, JobState.QUEUED]
    assert [entry.deaths for entry in ledger.all()] == [0, 0]


def test_what_was_killed_since_it_did_not_stop_in_time_did_not_die(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    entry = ledger.accept(RUN, promote=True)
    deaf = crew(IS_DEAF, grace_s=0.2)
    ticked(deaf, lambda: ledger.get(entry.id).state is JobState.RUNNING)
    deaf.stop()
    left = ledger.get(entry.id)
    assert (left.state, left.deaths) == (JobState.QUEUED, 0)


def test_being_told_to_stop_is_no_death(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    entry = ledger.accept(RUN, promote=True)
    told = crew("work(ledger, name, lambda entry: os.kill(os.getpid(), signal.SIGTERM) or {})")
    ticked(told, lambda: ledger.get(entry.id).attempts >= 4)
    assert ledger.get(entry.id).state not in FINAL_STATES
    assert ledger.get(entry.id).deaths == 0


def test_leaving_work_behind_is_a_death_whatever_the_process_says(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    entry = ledger.accept(RUN, promote=True)
    ticked(crew("ledger.begin(name); sys.exit(75)"), lambda: ledger.get(entry.id).state is JobState.FAILED)
    assert ledger.get(entry.id).deaths == 3


def test_what_is_canceled_stops_even_if_its_process_does_not_listen(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    entry = ledger.accept(RUN, promote=True)
    deaf = crew(IS_DEAF, grace_s=0.5)
    ticked(deaf, lambda: ledger.get(entry.id).state is JobState.RUNNING)
    assert ledger.cancel(entry.id).cancel_requested
    ticked(deaf, lambda: ledger.get(entry.id).state is JobState.CANCELED)


def test_a_foreman_survives_what_goes_wrong(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    entry = ledger.accept(RUN, promote=True)

    class Broken(Crew[Publication]):
        def tick(self) -> None:
            raise RuntimeError("a bug")

    broken = Broken(ledger, command=lambda _: [], environment={}, at_once=1, grace_s=1)
    foreman = Foreman([broken, crew(WORKS)])
    foreman.start()
    try:
        deadline = time.monotonic() + 60
        while ledger.get(entry.id).state is not JobState.SUCCEEDED:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        foreman.stop()
    assert not foreman.is_alive()


def test_a_child_leads_a_session_of_its_own(ledger: Publications, crew: Callable[..., Crew[Publication]]) -> None:
    """Or else a terminal's Ctrl-C, meant for the service, would hit the run, too."""
    entry = ledger.accept(RUN, promote=True)
    ticked(crew("print(os.getsid(0), os.getpid(), flush=True); " + WORKS), lambda: ledger.get(entry.id).state is JobState.SUCCEEDED)
    session, pid = map(int, (ledger.folder(entry.id) / "log.txt").read_text().split())
    assert session == pid != os.getsid(0)


def test_several_processes_share_a_run_under_torchrun() -> None:
    assert training_command("python", processes=1)(RUN) == ["python", "-m", "training", "run", RUN]
    together = training_command("python", processes=4)(RUN)
    assert together[:5] == ["python", "-m", "training.together", "--standalone", "--nproc-per-node=4"]
    assert together[5:] == ["-m", "training", "run", RUN]

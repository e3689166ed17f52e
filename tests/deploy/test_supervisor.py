"""The supervisor, over small programs that do one thing wrong each."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.supervisor import Program, StackError, Supervisor

SLEEPS = ["sleep", "600"]
STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
HAS_A_CHILD = ["sh", "-c", "sleep 600 & echo $!; wait"]

LAUNCHER = """
import sys, time
from pathlib import Path
from deploy.supervisor import Program, Supervisor

supervisor = Supervisor(logs=Path(sys.argv[1]), directory=Path.cwd(), announce=print)
supervisor.__enter__()
supervisor.start(Program(name="one", command=["sh", "-c", "echo up; exec sleep 600"]))
supervisor.wait("one", supervisor.log("one").read_text, timeout_s=10)
print(supervisor.pid("one"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    with Supervisor(logs=tmp_path / "logs", directory=tmp_path, announce=said.append) as running:
        yield running


def eventually(true: Callable[[], bool], *, within_s: float = 10) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


def test_a_program_gets_its_environment_and_its_own_log(supervisor: Supervisor) -> None:
    supervisor.start(Program(name="one", command=["sh", "-c", "echo $GREETING; sleep 600"], environment={"GREETING": "hello"}))
    eventually(lambda: supervisor.log("one").read_text() == "hello\n")


def test_a_program_that_dies_while_starting_is_named_with_the_end_of_its_log(supervisor: Supervisor) -> None:
    supervisor.start(Program(name="steady", command=SLEEPS))
    supervisor.start(Program(name="broken", command=["sh", "-c", "echo the port is taken; exit 3"]))
    with pytest.raises(StackError, match=r"(?s)^broken ended with status 3 while starting.*the port is taken"):
        supervisor.wait("both", lambda: False, timeout_s=10)


def test_a_program_that_does_not_exist_is_named_too(supervisor: Supervisor) -> None:
    supervisor.start(Program(name="absent", command=["/no/such/program"]))
    with pytest.raises(StackError, match=r"(?s)^absent ended with status 127.*/no/such/program"):
        supervisor.wait("it", lambda: False, timeout_s=10)


def test_waiting_ends_at_the_deadline_and_says_where_the_logs_are(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program(name="silent", command=SLEEPS))
    with pytest.raises(StackError, match=rf"the stack was not ready after 0 s.*{tmp_path / 'logs'}"):
        supervisor.wait("the stack", lambda: False, timeout_s=0.3)


def test_what_dies_while_up_is_brought_back_and_said(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(Program(name="one", command=SLEEPS))
    supervisor.revive()
    first = supervisor.pid("one")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.pid("one") != first)
    assert psutil.pid_exists(supervisor.pid("one"))
    assert len(said) == 1
    assert said[0].startswith("one was killed by SIGKILL; starting it again in 0.5 s")


def test_restarts_of_what_keeps_dying_slow_down(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(Program(name="one", command=["false"]))
    supervisor.revive()
    eventually(lambda: len(said) == 3)
    assert [line.partition("again in ")[2].partition(" s")[0] for line in said] == ["0.5", "1", "2"]


def test_what_is_held_down_stays_down_until_released(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(Program(name="one", command=SLEEPS))
    supervisor.revive()
    first = supervisor.pid("one")
    with supervisor.down("one"):
        assert not psutil.pid_exists(first)
        time.sleep(1)
        assert supervisor.pid("one") == first
    assert psutil.pid_exists(supervisor.pid("one"))
    assert said == []


def test_what_is_ended_kindly_may_say_goodbye(supervisor: Supervisor) -> None:
    says_goodbye = "trap 'echo goodbye; exit' TERM; echo up; while :; do sleep 0.05; done"
    supervisor.start(Program(name="one", command=["sh", "-c", says_goodbye]))
    eventually(lambda: supervisor.log("one").read_text().startswith("up\n"))
    with supervisor.down("one", by=signal.SIGTERM):
        assert supervisor.log("one").read_text().endswith("goodbye\n")


def test_what_a_program_has_started_is_its_own_to_end(supervisor: Supervisor) -> None:
    ends_its_child = "sleep 60 & child=$!; trap 'kill -0 $child && echo lives; kill $child; exit' TERM; echo up; wait"
    supervisor.start(Program(name="one", command=["sh", "-c", ends_its_child]))
    eventually(lambda: supervisor.log("one").read_text().startswith("up\n"))
    with supervisor.down("one", by=signal.SIGTERM):
        assert "lives" in supervisor.log("one").read_text()


def test_closing_ends_programs_last_started_first_with_their_children(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    supervisor = Supervisor(logs=tmp_path, directory=tmp_path, announce=print)
    with supervisor:
        for name in ("first", "second"):
            says_when_it_ends = f"trap 'echo {name} >> {ends}; exit' TERM; echo up; while :; do sleep 0.05; done"
            supervisor.start(Program(name=name, command=["sh", "-c", says_when_it_ends]))
        supervisor.start(Program(name="parent", command=HAS_A_CHILD))
        eventually(lambda: all(supervisor.log(name).read_text() for name in ("first", "second", "parent")))
        child = int(supervisor.log("parent").read_text())
    assert ends.read_text() == "second\nfirst\n"
    eventually(lambda: not alive(child))
    supervisor.close()


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    with Supervisor(logs=tmp_path, directory=tmp_path, announce=print) as supervisor:
        supervisor.start(Program(name="stubborn", command=STUBBORN, grace_s=0.3))
        pid = supervisor.pid("stubborn")
        time.sleep(0.3)
    assert not alive(pid)


def test_programs_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        assert alive(pid)
        launcher.kill()
    eventually(lambda: not alive(pid))


def test_programs_outlive_the_thread_that_asked_for_them(supervisor: Supervisor) -> None:
    asking = threading.Thread(target=lambda: supervisor.start(Program(name="one", command=SLEEPS)))
    asking.start()
    asking.join()
    time.sleep(0.3)
    assert alive(supervisor.pid("one"))


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_lost_folder_of_logs_does_not_take_the_stack_down(supervisor: Supervisor) -> None:
    for name in ("one", "two"):
        supervisor.start(Program(name=name, command=SLEEPS))
    supervisor.revive()
    shutil.rmtree(supervisor.log("one").parent)
    killed, kept = supervisor.pid("one"), supervisor.pid("two")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: supervisor.pid("one") != killed)
    assert supervisor.pid("two") == kept
    assert psutil.pid_exists(kept)

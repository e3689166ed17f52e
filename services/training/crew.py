"""The processes that do what a ledger has promised: started for what waits, counted as dead when they end without a word.

A process works in a session of its own and holds its entry's lock. When the service is stopped, it stops its processes, and what they
worked on waits for the next start. When the service is killed, they go on by themselves; the next service sees the lock and
leaves them alone until it is free.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from shared.errors import MienError
from shared.jobs import JobState
from training.ledger import Entry, Ledger

log = logging.getLogger(__name__)

LOG: Final = "log.txt"
LOOK_EVERY_S: Final = 0.5

E = TypeVar("E", bound=Entry)


class Crew(Generic[E]):
    """The processes of one ledger. Not safe to share between threads."""

    def __init__(
        self, ledger: Ledger[E], *, command: Callable[[str], Sequence[str]], environment: Mapping[str, str], at_once: int, grace_s: float
    ) -> None:
        """`command` is what works on an entry, by its id. `environment` comes on top of this process's own."""
        self._ledger = ledger
        self._command = command
        self._environment = environment
        self._at_once = at_once
        self._grace_s = grace_s
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._kill_at: dict[str, float] = {}

    def tick(self) -> None:
        """See who has ended, and start what waits. Called again and again."""
        for entry_id, process in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[entry_id]
                self._kill_at.pop(entry_id, None)
                self._ended(entry_id, process.returncode)
        entries = self._ledger.all()
        busy = [entry for entry in entries if entry.id in self._processes or self._is_worked_on(entry)]
        for entry in busy:
            self._hurry(entry)
        waiting = [entry for entry in reversed(entries) if entry.state is JobState.QUEUED and entry not in busy]
        for entry in waiting[: max(0, self._at_once - len(busy))]:
            self._start(entry)

    def stop(self) -> None:
        """End every process of this crew. What they worked on is queued again."""
        for process in self._processes.values():
            send(process, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        for entry_id, process in self._processes.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                send(process, signal.SIGKILL)
                process.wait()
            self._handed_back(entry_id)
        self._processes.clear()

    def _is_worked_on(self, entry: E) -> bool:
        """Whether somebody else's process works on it. One that was left running by a process that is gone dies its death here."""
        if entry.state is not JobState.RUNNING:
            return False
        if self._ledger.is_held(entry.id):
            return True
        self._ended(entry.id, None)
        return False

    def _ended(self, entry_id: str, status: int | None) -> None:
        """A process is gone. Where it did not write down how its work ended, that counts as its death, unless it was told to stop.

        One that claims that, and has left its work running all the same, is counted at the next look.
        """
        if status == os.EX_TEMPFAIL:
            log.info("process was told to stop", extra={"entry": entry_id})
            return
        try:
            if not self._ledger.is_held(entry_id):
                entry = self._ledger.died(entry_id, how_it_ended(status))
                log.info("process ended", extra={"entry": entry_id, "status": status, "state": entry.state})
        except MienError:
            log.exception("cannot write down how a process ended", extra={"entry": entry_id})

    def _handed_back(self, entry_id: str) -> None:
        """What this crew has stopped did not die, also where its process had no time left to say so."""
        try:
            if not self._ledger.is_held(entry_id):
                self._ledger.hand_back(entry_id)
        except MienError:
            log.exception("cannot hand back", extra={"entry": entry_id})

    def _hurry(self, entry: E) -> None:
        """Kill a process of ours that was asked to stop and does not."""
        process = self._processes.get(entry.id)
        if process is None or not entry.cancel_requested:
            return
        if time.monotonic() > self._kill_at.setdefault(entry.id, time.monotonic() + self._grace_s):
            send(process, signal.SIGKILL)

    def _start(self, entry: E) -> None:
        folder = self._ledger.folder(entry.id)
        try:
            with (folder / LOG).open("ab") as output:
                self._processes[entry.id] = subprocess.Popen(
                    self._command(entry.id),
                    env={**os.environ, **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError:  # no memory, no room, or deleted a moment ago: the next look sees
            log.exception("cannot start a process", extra={"entry": entry.id})
            return
        log.info("process started", extra={"entry": entry.id, "pid": self._processes[entry.id].pid})


class Foreman(threading.Thread):
    """Lets crews look after their ledgers, at once when `look` is called and twice a second."""

    def __init__(self, crews: Sequence[Crew[Any]]) -> None:
        super().__init__(name="foreman")
        self._crews = crews
        self._news = threading.Event()
        self._over = False

    def look(self) -> None:
        """There is something new."""
        self._news.set()

    def run(self) -> None:
        while not self._over:
            self._news.clear()
            for crew in self._crews:
                try:
                    crew.tick()
                except Exception:  # whatever it is, the other crew and the next look go on
                    log.exception("cannot look after the ledger")
            self._news.wait(LOOK_EVERY_S)
        for crew in self._crews:
            crew.stop()

    def stop(self) -> None:
        """End every process, and this thread."""
        self._over = True
        self._news.set()
        self.join()


def send(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """To the process and whatever it has started."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def how_it_ended(status: int | None) -> str:
    if status is None:
        return "with nobody looking"
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"


def training_command(python: str, *, processes: int) -> Callable[[str], list[str]]:
    """What works on a run: one process, or several that `torchrun` starts."""
    alone = [python, "-m", "training", "run"]
    together = [python, "-m", "training.together", "--standalone", f"--nproc-per-node={processes}", *alone[1:]]
    return lambda run_id: [*(alone if processes == 1 else together), run_id]


def publishing_command(python: str) -> Callable[[str], list[str]]:
    return lambda publication_id: [python, "-m", "training", "publish", publication_id]

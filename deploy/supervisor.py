"""Keeps the programs of one machine running: starts them, brings back the ones that die, and ends them in order.

One keeper thread starts and ends every program. That is not for speed: the kernel sends a child its parent-death signal when
the *thread* that started it ends, so all of them belong to one thread that lives as long as the supervisor.
"""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

T = TypeVar("T")

TICK_S: Final = 0.1
BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
STEADY_S: Final = 30.0
"""A program that lived this long had recovered: its next restart is quick again."""
LOG_TAIL_LINES: Final = 20


class StackError(Exception):
    """The stack cannot run; the message says which part, why, and where to look."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program to keep running."""

    name: str
    """Names its log file and its lines in announcements."""
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the launcher's own."""
    grace_s: float = 10.0
    """Between SIGTERM and SIGKILL."""


@dataclass(kw_only=True)
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    started_s: float
    restarts: int = 0
    """In a row, without having been steady between them."""
    due_s: float | None = None
    """When a dead program is started again; None while it lives."""
    held: bool = False


class Supervisor:
    """Runs programs from `start` until `close`, each with its own log under `logs`."""

    def __init__(self, *, logs: Path, directory: Path, announce: Callable[[str], None]) -> None:
        self._logs = logs
        self._directory = directory
        self._announce = announce
        self._running: dict[str, _Running] = {}
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._reviving = False
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, program: Program) -> None:
        """Start a program, without waiting for it. Raises StackError when it cannot be started at all."""
        self._ask(lambda: self._start(program))

    def wait(self, name: str, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready()`. Raises StackError when any program dies before that, or the time is over."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            self._raise_if_dead()
            if time.monotonic() > deadline_s:
                raise StackError(f"{name} was not ready after {timeout_s:.0f} s; the logs are in {self._logs}\n{self._tails()}")
            time.sleep(TICK_S)

    def revive(self) -> None:
        """From now on bring back what dies. Not before: a program that dies while starting would only die again."""
        self._reviving = True

    def pid(self, name: str) -> int:
        """The process, and process group, that runs a program now."""
        return self._running[name].process.pid

    @contextmanager
    def down(self, name: str, *, by: signal.Signals = signal.SIGKILL) -> Iterator[None]:
        """End a program, as a crash would, and leave it down inside the `with`: for tests and drills.

        A kinder signal is followed by SIGKILL after the program's grace.
        """
        running = self._running[name]

        def hold() -> None:
            running.held = True
            _end(running.process, by, grace_s=running.program.grace_s)

        def restore() -> None:
            running.held = False
            self._restart(running)

        self._ask(hold)
        try:
            yield
        finally:
            self._ask(restore)

    def close(self) -> None:
        """End every program, last started first. Closing twice is fine."""
        if not self._closed:
            self._ask(self._stop_all)
            self._keeper.join()

    # --- in the keeper thread -------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._closed:
            with suppress(queue.Empty):
                self._requests.get(timeout=TICK_S)()
            for running in self._running.values():
                self._revive(running)

    def _ask(self, work: Callable[[], T]) -> T:
        """Do `work` in the keeper thread and wait for its answer."""
        future: Future[T] = Future()

        def answer() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        self._requests.put(answer)
        return future.result()

    def _start(self, program: Program) -> None:
        process = self._spawn(program, "wb")
        self._running[program.name] = _Running(program=program, process=process, started_s=time.monotonic())

    def _restart(self, running: _Running) -> None:
        running.due_s = None
        running.started_s = time.monotonic()
        running.process = self._spawn(running.program, "ab")

    def _spawn(self, program: Program, log_mode: str) -> subprocess.Popen[bytes]:
        # setpriv asks the kernel to end the program when the launcher is killed; its own session keeps Ctrl-C for the launcher,
        # which then ends the programs in order, and makes a group of whatever the program starts itself.
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with self.log(program.name).open(log_mode) as log:
                return subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *program.command],
                    cwd=self._directory,
                    env={**os.environ, **program.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise StackError(f"{program.name} cannot be started: {error}") from error

    def _revive(self, running: _Running) -> None:
        if not self._reviving or self._closed or running.held:
            return
        if running.due_s is None:
            code = running.process.poll()
            if code is not None:
                _kill_group(running.process.pid, signal.SIGKILL)
                self._restart_later(running, _how_it_ended(code))
        elif time.monotonic() >= running.due_s:
            try:
                self._restart(running)
            except StackError as error:
                self._restart_later(running, str(error))

    def _restart_later(self, running: _Running, why: str) -> None:
        now_s = time.monotonic()
        running.restarts = 0 if now_s - running.started_s > STEADY_S else running.restarts
        pause_s = BACKOFF_S[min(running.restarts, len(BACKOFF_S) - 1)]
        running.restarts += 1
        running.due_s = now_s + pause_s
        self._announce(f"{running.program.name} {why}; starting it again in {pause_s:g} s (log: {self.log(running.program.name)})")

    def _stop_all(self) -> None:
        self._closed = True
        for running in reversed(self._running.values()):
            _end(running.process, signal.SIGTERM, grace_s=running.program.grace_s)

    # --- what to say when it fails --------------------------------------------------------------------------------

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _raise_if_dead(self) -> None:
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is not None and not running.held:
                raise StackError(f"{name} {_how_it_ended(code)} while starting. The end of {self.log(name)}:\n{self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (empty)"

    def _tails(self) -> str:
        return "\n".join(f"  {name}:\n{self._tail(name)}" for name in self._running)


def _end(process: subprocess.Popen[bytes], first: signal.Signals, *, grace_s: float) -> None:
    """Signal the program, wait, and leave nothing of its group alive.

    What it has started is its own to end: a decoder that is told to stop looks like a video that has killed its decoder, and Triton
    waits long for a model whose process is gone.
    """
    if process.poll() is None:
        process.send_signal(first)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    _kill_group(process.pid, signal.SIGKILL)
    process.wait()


def _kill_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

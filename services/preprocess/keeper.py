"""Keeps the lease of the job that a worker is busy with, from a process of its own.

A thread would fall silent whenever a decoder or a tensor operation holds the interpreter's lock, and the job would be
given to somebody else. The process is started afresh, never forked, so it shares no CUDA context and no locks; it hears
the worker through a socket pair, and so ends with it however the worker dies. It also ends a worker whose job never ends.

What the worker says, one line each: a lease, as JSON, when a job begins, and nothing when it has ended. The process
answers once, with a byte, as soon as it is able to beat.
"""

import argparse
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from shared import logs
from shared.errors import InternalError, QueueUnavailable
from shared.jobs import Failure
from shared.queue import Beat, Lease, WorkerQueue
from shared.redis_passwords import with_password

ROOT: Final = Path(__file__).parents[2]
URL_VARIABLE: Final = "MIEN_REDIS_URL"
READY: Final = b"r"
RESTARTS_AFTER_S: Final = 0.2
STARTS_WITHIN_S: Final = 30.0
"""Generous: a machine that is busy enough takes seconds to import Redis's client."""

log = logging.getLogger(__name__)


class Keeper:
    """The worker's end: starts the process, starts it again should it die, and tells it what to keep.

    The lock is never held while anything is waited for: a process that hangs holds up neither a job nor the worker's end.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        redis_password_file: Path | None = None,
        lease_s: float,
        max_runtime_s: float = 7200.0,
        starts_within_s: float = STARTS_WITHIN_S,
    ) -> None:
        """
        redis_password_file: file with the password of the user whom `redis_url` names.
        max_runtime_s: a worker that is busy with one job for longer is killed.
        starts_within_s: a process that is not able to beat by then is killed, and the next one tried.
        """
        self._environment = {**os.environ, URL_VARIABLE: redis_url}  # not an argument: a URL may hold a password
        self._command = [sys.executable, "-m", __name__, "--lease-s", str(lease_s), "--max-runtime-s", str(max_runtime_s)]
        if redis_password_file:
            self._command += ["--redis-password-file", str(redis_password_file)]
        self._starts_within_s = starts_within_s
        self._lock = threading.Lock()
        self._kept = b"\n"
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        """Raises OSError when the process does not start."""
        self._line = self._start()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed.set()
            self._process.kill()
        self._watcher.join()
        self._line.close()

    def hold(self, lease: Lease) -> None:
        self._tell(lease.model_dump_json().encode() + b"\n")

    def drop(self) -> None:
        self._tell(b"\n")

    def _tell(self, line: bytes) -> None:
        with self._lock:
            self._kept = line
            self._write()

    def _write(self) -> None:
        try:
            self._line.sendall(self._kept)
        except BlockingIOError:
            log.warning("the keeper does not listen: killing it")
            self._process.kill()
        except OSError:
            log.warning("the keeper is gone")  # `_watch` starts the next one, and tells it

    def _start(self) -> socket.socket:
        """The line to a new process that is able to beat. Raises OSError when there is none; nothing of it is left then."""
        with ExitStack() as undo:
            line, theirs = socket.socketpair()
            undo.callback(line.close)
            with theirs:
                process = self._launch(theirs)
            undo.callback(process.wait)
            undo.callback(process.kill)
            await_ready(line, within_s=self._starts_within_s)
            undo.pop_all()
            return line

    def _launch(self, ear: socket.socket) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._closed.is_set():
                raise ConnectionAbortedError("the worker ends")
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdin=ear.fileno())
            return self._process

    def _watch(self) -> None:
        while True:
            self._process.wait()
            if self._closed.wait(RESTARTS_AFTER_S):
                return
            log.warning("the keeper has died", extra={"exit_status": self._process.returncode})
            try:
                line = self._start()
            except OSError as error:
                log.warning("the keeper does not start", extra={"reason": str(error)})
            else:
                self._speak_on(line)

    def _speak_on(self, line: socket.socket) -> None:
        with self._lock:
            self._line.close()
            self._line = line
            self._write()


def await_ready(line: socket.socket, *, within_s: float) -> None:
    """Returns once the process at the other end is able to beat; the line never waits from then on.

    Raises TimeoutError, or ConnectionError when it has died.
    """
    line.settimeout(within_s)
    if line.recv(len(READY)) != READY:
        raise ConnectionError("the keeper died as it started")
    line.setblocking(False)


def keep(queue: WorkerQueue, ear: int, *, worker: int, max_runtime_s: float) -> None:
    """The process's end: beat for what the worker holds, until the worker is gone."""
    lease, began = None, 0.0
    for line in lines(ear, every_s=queue.lease_s / 4):
        if line is not None:
            lease, began = Lease.model_validate_json(line) if line else None, time.monotonic()
        if os.getppid() != worker:
            return
        if lease is None:
            continue
        if time.monotonic() - began > max_runtime_s:
            end_overrun(queue, lease, worker=worker)
            return
        if not beat(queue, lease):
            lease = None


def lines(ear: int, *, every_s: float) -> Iterator[bytes | None]:
    """The newest whole line each time there is one, None after every silence of `every_s`; ends with the worker."""
    rest = b""
    while True:
        if not select.select([ear], [], [], every_s)[0]:
            yield None
            continue
        heard = os.read(ear, 65536)
        if not heard:
            return
        *whole, rest = (rest + heard).split(b"\n")
        if whole:
            yield whole[-1]


def beat(queue: WorkerQueue, lease: Lease) -> bool:
    """False when there is nothing left to keep. Redis being away is no reason to give up."""
    try:
        return queue.beat(lease) != Beat.LOST
    except QueueUnavailable as error:
        log.warning("no beat", extra=about(lease) | {"reason": str(error.__cause__ or error)})
        return True


def end_overrun(queue: WorkerQueue, lease: Lease, *, worker: int) -> None:
    """Put the job back for a later try, if it has any left, and kill the worker, which may not be able to hear a kinder signal."""
    log.error("the job runs too long: killing the worker", extra=about(lease))
    try:
        queue.retry(lease, Failure.of(InternalError("the analysis did not end")))
    except QueueUnavailable:
        log.warning("the job waits for its lease to run out", extra=about(lease))
    os.kill(worker, signal.SIGKILL)


def about(lease: Lease) -> dict[str, object]:
    """What a log line says about a job."""
    return {"request_id": lease.job.request_id, "job_id": lease.job.id}


def main() -> None:
    arguments = argparse.ArgumentParser(description="Started by the worker, for itself.")
    arguments.add_argument("--lease-s", type=float, required=True)
    arguments.add_argument("--max-runtime-s", type=float, required=True)
    arguments.add_argument("--redis-password-file", type=Path)
    asked = arguments.parse_args()
    worker = os.getppid()
    logs.configure("keeper")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # they mean the worker, whose last job is still to be kept
    queue = WorkerQueue(with_password(os.environ[URL_VARIABLE], asked.redis_password_file), lease_s=asked.lease_s)
    os.write(sys.stdin.fileno(), READY)
    keep(queue, sys.stdin.fileno(), worker=worker, max_runtime_s=asked.max_runtime_s)


if __name__ == "__main__":
    main()

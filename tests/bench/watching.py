"""What the processes of a stack take while it works: resident memory and CPU time, read every so often."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import psutil

from deploy.supervisor import Supervisor

DECODER: Final = "services.preprocess.decode.decoder"
"""Stands in the command of the worker's child that decodes."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Of one process at one moment."""

    role: str
    """worker, decoder or triton."""
    pid: int
    at_s: float
    """Monotonic."""
    rss_bytes: int
    cpu_s: float
    """That it has taken since it began."""


class Watched:
    """Reads from `with` to its end, in a thread."""

    def __init__(self, programs: Supervisor, *, every_s: float) -> None:
        self._worker, self._triton = (psutil.Process(programs.pid(name)) for name in ("worker", "triton"))
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watching")
        self.readings: list[Reading] = []

    def __enter__(self) -> Self:
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def of(self, role: str) -> list[Reading]:
        return [reading for reading in self.readings if reading.role == role]

    def cpu_s(self, role: str) -> float:
        """CPU time that all processes of that role took meanwhile; of one that has ended, up to the last look at it."""
        began = {reading.pid for reading in self.readings if reading.at_s == self.readings[0].at_s}
        first, last = ({reading.pid: reading.cpu_s for reading in order} for order in (self.of(role)[::-1], self.of(role)))
        return sum(last.values()) - sum(taken for pid, taken in first.items() if pid in began)

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self._read()

    def _read(self) -> None:
        at_s = time.monotonic()
        for role, process in self._processes():
            with suppress(psutil.NoSuchProcess), process.oneshot():
                cpu = process.cpu_times()
                reading = Reading(role=role, pid=process.pid, at_s=at_s, rss_bytes=process.memory_info().rss, cpu_s=cpu.user + cpu.system)
                self.readings.append(reading)

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        yield "worker", self._worker
        for child in self._worker.children():
            with suppress(psutil.NoSuchProcess):
                if any(DECODER in word for word in child.cmdline()):
                    yield "decoder", child
        for process in (self._triton, *self._triton.children(recursive=True)):
            yield "triton", process

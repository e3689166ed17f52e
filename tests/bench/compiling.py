"""Whether torch.compile is worth its minutes here. The network is small, the code that is compiled for it is not.

It happens in a process of its own, which is ended when it takes too long: on one busy core compiling alone took minutes.
"""

import multiprocessing
import os
import shutil
import signal
import statistics
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.training import STEPS, our_way, random_clips, rate
from training.plan import Design, Recipe

RECIPE = Recipe(design=Design(width=0.125), batch=64)
SIZE = 32
ROUNDS = 5
WITHIN_S = 420.0


def run(_home: Path, _video: Path) -> list[Figure]:
    """Compiled and eager steps by turns. Needs a C++ compiler; without one there is nothing to tell."""
    if shutil.which("g++") is None:
        return []
    measured = within(WITHIN_S)
    if measured is None:
        return [Figure(bench="compile", name="training: torch.compile, given up while it was compiling, after", value=WITHIN_S, unit="s")]
    gain, waited_s = measured
    return [
        Figure(
            bench="compile", name=f"training: torch.compile over eager, width {RECIPE.design.width}, {SIZE} px", value=gain, unit="times"
        ),
        Figure(bench="compile", name=f"  the first {STEPS} steps, with compiling", value=waited_s, unit="s"),
    ]


def within(seconds: float) -> tuple[float, float] | None:
    """What `measure` sends; None where that takes longer. Whatever it has started, compilers among it, ends with it."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(sending,))
    process.start()
    sending.close()
    try:
        return receiving.recv() if receiving.poll(seconds) else None
    finally:
        with suppress(ProcessLookupError):  # where it did not live long enough to lead a group
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def measure(answer: Connection) -> None:
    """How many times as fast compiled steps are, and the seconds until the first ones were done."""
    os.setpgid(0, 0)
    clips = random_clips(STEPS * RECIPE.batch, size=SIZE)
    compiled, eager = (our_way(clips, RECIPE.model_copy(update={"compile": way}))[0] for way in (True, False))
    began = time.perf_counter()
    compiled()
    waited_s = time.perf_counter() - began
    eager()
    rates = [(rate(compiled, len(clips)), rate(eager, len(clips))) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    answer.send((mine / theirs, waited_s))
    time.sleep(60)  # ended from outside, with all that compiling has started

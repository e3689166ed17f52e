"""How a process that decodes is started: afresh, with an empty environment, and deaf to what is meant for the worker."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.errors import DecoderUnavailable

ROOT: Final = Path(__file__).parents[3]
PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv[1]); from services.preprocess.decode.decoder import main; main()"
DECODER: Final = (sys.executable, "-I", "-c", PROGRAM, str(ROOT))
ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""All of it. Address space is what is limited, and threads take it: numpy starts none, and those of the decoder share their heaps."""

MEANT_FOR_THE_WORKER: Final = (signal.SIGTERM, signal.SIGINT)


def start(command: Sequence[str], stdin: int) -> "subprocess.Popen[bytes]":
    """Start it; what it says comes through `stdout`. Raises DecoderUnavailable."""
    try:
        with _deaf():
            return subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, cwd="/", env=ENVIRONMENT, close_fds=True
            )
    except OSError as error:
        raise DecoderUnavailable(error.strerror or str(error)) from error


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold back, from this thread and for good from what it starts meanwhile, the signals that tell the worker to go.

    They often reach all processes of a group. A decoder that went by itself, before the worker's grace is over, would count against the
    file; it need not hear them, since it never outlives the worker.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, MEANT_FOR_THE_WORKER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Several processes under `torchrun`: stopped and dead are told apart."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ENDS_WITHIN_S = 120

IS_STOPPED = """
import sys, time
from pathlib import Path
Path(sys.argv[1]).touch()
time.sleep(600)
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def started(script: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "training.together", "--standalone", "--nproc-per-node=1", str(script), *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def test_being_told_to_stop_has_a_status_of_its_own(tmp_path: Path) -> None:
    script, running = tmp_path / "script.py", tmp_path / "running"
    script.write_text(IS_STOPPED)
    with started(script, str(running)) as process:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not running.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == os.EX_TEMPFAIL


def test_a_process_that_dies_is_no_stop(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(DIES)
    with started(script) as process:
        assert process.wait(ENDS_WITHIN_S) == 1

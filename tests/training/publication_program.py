"""Publishes in a process of its own that is killed as it is about to change the disk for the n-th time, or at a named moment.

python -m tests.training.publication_program export     one line of JSON in per export, one out; each runs in a fork, so that
                                                        torch is imported once
python -m tests.training.publication_program publish    one whole publication, killed at a moment
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.queue import WorkerQueue
from shared.signatures import Signer
from training.export import export
from training.gate import Gate
from training.keys import ensure
from training.publish import Publisher
from training.repository import HISTORY, Repository

CHANGES = {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changes_the_disk(event: str, arguments: tuple[Any, ...]) -> bool:
    return event in CHANGES or (event == "open" and bool(arguments[2] & WRITES))


def asks_triton(event: str, arguments: tuple[Any, ...]) -> bool:
    """The release has been renamed, and Triton is about to be told."""
    return event == "socket.connect" and arguments[1][1] == int(os.environ["TRITON_PORT"])


def writes_the_history(event: str, arguments: tuple[Any, ...]) -> bool:
    """Triton serves the release, and nothing has been written down."""
    return changes_the_disk(event, arguments) and HISTORY in str(arguments[0])


def has_written_the_history(event: str, arguments: tuple[Any, ...]) -> bool:
    """Written down, but the alias has not moved: the folder is about to be fsynced."""
    if event != "open" or not isinstance(arguments[0], str | Path) or not Path(arguments[0]).is_dir():
        return False
    history = Path(arguments[0]) / HISTORY
    return history.exists() and '"version": 2' in history.read_text()


MOMENTS: dict[str, Callable[[str, tuple[Any, ...]], bool]] = {
    "loading": asks_triton,
    "remembering": writes_the_history,
    "remembered": has_written_the_history,
}


def die(moment: Callable[[str, tuple[Any, ...]], bool], *, at: int) -> Callable[[], int]:
    """Have the kernel end this process at the n-th such moment; a function that says how many there have been."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if moment(event, arguments):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: seen


def do_export(order: dict[str, Any]) -> None:
    export(Path(order["candidate"]), Path(order["models"]), signer=Signer.load(Path(order["key"])))


def do_withdraw(order: dict[str, Any]) -> None:
    repository = Repository(Path(order["models"]))
    with repository.changing():
        repository.withdraw(2)


def do_make_keys(order: dict[str, Any]) -> None:
    ensure(Path(order["keys"]), models=Path(order["models"]))


ACTIONS: dict[str, Callable[[dict[str, Any]], None]] = {"export": do_export, "withdraw": do_withdraw, "make keys": do_make_keys}


def done_in_a_fork(order: dict[str, Any]) -> dict[str, int]:
    """How it ended, and how often it changed the disk."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            count = die(changes_the_disk, at=order["at"])
            ACTIONS[order["action"]](order)
            os.write(writing, str(count()).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as counted:
        _, status = os.waitpid(child, 0)
        return {"status": os.waitstatus_to_exitcode(status), "changes": int(counted.read() or 0)}


def publish(order: dict[str, Any]) -> None:
    die(MOMENTS[order["moment"]], at=1)
    signer = Signer.load(Path(order["key"]))
    Publisher(
        models=Path(order["models"]),
        frozen=[Path(order["frozen"])],
        signer=signer,
        trusted=signer.trusted,
        aliases=WorkerQueue(order["redis"]),
        triton_http=order["triton"],
        gate=Gate(latency_ratio=1000),
    ).publish(Path(order["candidate"]))


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish(json.loads(sys.stdin.readline()))
    else:
        for line in sys.stdin:
            print(json.dumps(done_in_a_fork(json.loads(line))), flush=True)  # noqa: T201

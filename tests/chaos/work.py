"""Work that does not end while something else is looked at."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from tests.chaos.client import Client
from tests.chaos.waiting import wait_for

WAITING: Final = 4
ACCEPTED_WITHIN_S: Final = 120.0
BEGUN_WITHIN_S: Final = 60.0
LOOKS_AGAIN_S: Final = 0.3


@contextmanager
def busy(client: Client, clips: Sequence[Path], *, name: str) -> Iterator[list[str]]:
    """Inside the `with` an analysis runs and some wait, as far as the service lets them; their ids, which grow."""
    ids: list[str] = []
    enough = threading.Event()

    def feed() -> None:
        for number in count():
            while client.states(ids)["queued"] >= WAITING:
                if enough.wait(LOOKS_AGAIN_S):
                    return
            if enough.is_set():
                return
            ids.append(client.post(clips[number % len(clips)], key=f"{name}-{number}", within_s=ACCEPTED_WITHIN_S))

    feeder = threading.Thread(target=feed, name="feeder")
    feeder.start()
    try:
        wait_for(lambda: client.states(ids)["running"] > 0, within_s=BEGUN_WITHIN_S, what="a job that runs")
        yield ids
    finally:
        enough.set()
        feeder.join()

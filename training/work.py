"""Working on one entry of a ledger in this process, and writing down how that ended.

Whoever runs this may be told to stop by SIGTERM or SIGINT, which become SystemExit and KeyboardInterrupt: the entry is handed
back and goes on later. Killed without a word, it leaves the entry to `Ledger.died`.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from shared.errors import InternalError, MienError
from shared.jobs import Failure
from shared.videos import storage_errors
from training.ledger import Entry, Ledger

log = logging.getLogger(__name__)

CANCEL_WITHIN_S: Final = 1.0
TOLD_WITHIN_S: Final = 2.0
"""How much later than another process this one may be told to stop; torchrun looks ten times a second."""

E = TypeVar("E", bound=Entry)


def work(ledger: Ledger[E], entry_id: str, task: Callable[[E], dict[str, object]], *, alone: bool = True) -> E:
    """Do `task`, whose answer are fields of the entry; the entry as it is in the end.

    Not `alone`, the task takes other processes too, and the end of one of them raises anything here. So what is no MienError leaves
    the entry running and is raised: whoever looks for work next counts it as a death, and tries again. Where all of them were told to
    stop, and another one was first, the same word is on its way here and is waited for.

    Raises the kind's CONFLICT when another process works on the entry, or it has ended.
    """
    with ledger.hold(entry_id):
        try:
            return _attempt(ledger, ledger.begin(entry_id), task, alone=alone)
        except (SystemExit, KeyboardInterrupt):
            ledger.hand_back(entry_id)
            raise


def _attempt(ledger: Ledger[E], entry: E, task: Callable[[E], dict[str, object]], *, alone: bool) -> E:
    try:
        with stopped_when_canceled(ledger, entry.id), storage_errors():
            result = task(entry)
    except MienError as error:
        return ledger.fail(entry.id, Failure.of(error))
    except Exception:
        if not alone:
            time.sleep(TOLD_WITHIN_S)  # where a SIGTERM comes, SystemExit is raised here
            raise
        log.exception("a bug")
        return ledger.fail(entry.id, Failure.of(InternalError("its log says more")))
    return ledger.succeed(entry.id, **result)


@contextmanager
def stopped_when_canceled(ledger: Ledger[E], entry_id: str) -> Iterator[None]:
    """Send this process a SIGTERM as soon as the entry is to be canceled, whoever asked for it from wherever."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(CANCEL_WITHIN_S):
            try:
                canceled = ledger.get(entry_id).cancel_requested
            except MienError:
                log.exception("cannot see whether it is to be canceled")
                continue
            if canceled:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()

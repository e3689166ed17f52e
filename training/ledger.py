"""What was promised, on the disk: one folder per entry, its state in one file, and the only code that changes a state.

    <ledger>/
      .lock                    held by flock for the milliseconds that a change takes
      <id>/
        state.json             the Entry; replaced as a whole
        working                held by flock for as long as a process works on the entry, so that no second one does
        ...                    what the work leaves

    create --> queued --begin--> running --succeed--> succeeded
                 ^  |              |  |---fail------> failed      <--too many deaths
                 |  '--cancel--.   |  '---cancel----> canceled
                 |--hand_back, died'                     |
                 '---------------resume------------------' (and from failed)

Services, the processes they start and people at a command line may use one ledger at the same time. An entry outlives all of
them: whoever looks for work next finds it, queued or left running by a process that is gone.
"""

import fcntl
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Annotated, ClassVar, Final, Generic, TypeVar
from uuid import uuid4

from pydantic import Field, ValidationError

from shared.errors import AttemptsExhausted, MienError, StorageError
from shared.jobs import FINAL_STATES, Contract, Failure, JobState, Milliseconds
from shared.videos import fsync_folder, remove, storage_errors, write_durably

log = logging.getLogger(__name__)

STATE: Final = "state.json"
WORKING: Final = "working"
LOCK: Final = ".lock"

KEPT: Final = 1024
"""Entries in memory."""
HOLD_WITHIN_S: Final = 1.0
"""Who only looks whether an entry is held holds it for a moment, too; nobody is turned away by that."""


class Entry(Contract):
    """What a ledger knows of one piece of work. Wall-clock times are Unix milliseconds."""

    ID: ClassVar[re.Pattern[str]]
    NOT_FOUND: ClassVar[type[MienError]]
    CONFLICT: ClassVar[type[MienError]]
    """What is raised where its state does not allow what is asked."""

    id: str
    """Names the entry's folder."""
    state: JobState = JobState.QUEUED
    """Where it is. The last three states are final, but a person may resume what failed or was canceled."""
    revision: Annotated[int, Field(ge=0)] = 0
    """Grows with every change of this record."""
    created_ms: Milliseconds = 0
    """When it was accepted."""
    started_ms: Milliseconds | None = None
    """When the current or last attempt started."""
    ended_ms: Milliseconds | None = None
    """When it reached a final state."""
    attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts begun. Each goes on where the one before it stood."""
    deaths: Annotated[int, Field(ge=0)] = 0
    """How often in a row its process died without getting any further."""
    reached: Annotated[int, Field(ge=0)] = 0
    """How far it had come when its process last died."""
    cancel_requested: bool = False
    """A running one stops within seconds."""
    failure: Failure | None = None
    """Why it failed."""

    @property
    def can_be_canceled(self) -> bool:
        return self.state in (JobState.QUEUED, JobState.RUNNING)


E = TypeVar("E", bound=Entry)


class Ledger(Generic[E]):
    """Every entry of one kind. Blocking. Every call raises StorageError when the disk does not take or give bytes."""

    def __init__(self, folder: Path, *, kind: type[E], reached: Callable[[Path], int], most_deaths: int = 3) -> None:
        """`reached` says how far the work in an entry's folder has come, as a number that grows with it."""
        self.root = folder
        self._kind = kind
        self._reached = reached
        self._most_deaths = most_deaths
        self._decoded = lru_cache(maxsize=KEPT)(self._decode)  # most entries ended long ago, and are listed twice a second

    def prepare(self) -> None:
        """Make the folder, and finish removing what a killed process left half made or half deleted."""
        with self._changing():
            for path in self.root.glob(".*-*"):
                remove(path)

    def check(self) -> None:
        """Raise StorageError unless a small file can be made durable right now."""
        with storage_errors():
            probe = self.root / f".probe-{uuid4().hex}"
            try:
                write_durably(probe, b"ok")
            finally:
                probe.unlink(missing_ok=True)

    def folder(self, entry_id: str) -> Path:
        return self.root / entry_id

    def create(self, entry: E) -> E:
        """Promise it, durably. Where the ledger has one with this id, that one is returned as it is."""
        with self._changing():
            if (self.folder(entry.id) / STATE).exists():
                return self.get(entry.id)
            entry = self.completed(entry)
            aside = self.root / f".new-{uuid4().hex}"
            aside.mkdir()
            write_durably(aside / STATE, _encode(entry))
            aside.rename(self.folder(entry.id))
            fsync_folder(self.root)
        return entry

    def completed(self, entry: E) -> E:
        """What is about to be promised, with what only the ledger knows. Called while nobody else can promise anything."""
        time.sleep(0.001)  # so that no two share a millisecond: it is a place in the list
        return entry.model_copy(update={"created_ms": now_ms()})

    def get(self, entry_id: str) -> E:
        """As it is now. Raises the kind's NOT_FOUND."""
        if not self._kind.ID.fullmatch(entry_id):
            raise self._kind.NOT_FOUND
        with storage_errors():
            try:
                content = (self.folder(entry_id) / STATE).read_bytes()
            except FileNotFoundError:
                raise self._kind.NOT_FOUND from None
        return self._decoded(content)

    def all(self) -> list[E]:
        """Every entry, newest first. One that cannot be read is left out and logged: it must not hide the others."""
        if not self.root.is_dir():
            return []
        with storage_errors():
            names = [path.name for path in self.root.iterdir() if self._kind.ID.fullmatch(path.name)]
        return sorted(self._readable(names), key=lambda entry: (entry.created_ms, entry.id), reverse=True)

    def _readable(self, names: list[str]) -> Iterator[E]:
        for name in names:
            try:
                yield self.get(name)
            except self._kind.NOT_FOUND:
                continue  # deleted meanwhile
            except StorageError:
                log.exception("unreadable entry", extra={"entry": name})

    # --- who works on it ---------------------------------------------------------------------------------------------

    @contextmanager
    def hold(self, entry_id: str) -> Iterator[None]:
        """Be the one process that works on the entry. Raises the kind's CONFLICT when another one is."""
        self.get(entry_id)
        with storage_errors():
            file = (self.folder(entry_id) / WORKING).open("a")
        with file:  # the lock lives as long as the open file, whatever way this process ends
            deadline = time.monotonic() + HOLD_WITHIN_S
            while not _locked(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise self._kind.CONFLICT("another process works on it")
                time.sleep(0.02)
            yield

    def is_held(self, entry_id: str) -> bool:
        """Whether a living process works on the entry."""
        with storage_errors():
            try:
                file = (self.folder(entry_id) / WORKING).open()
            except FileNotFoundError:
                return False
            with file:
                return not _locked(file, fcntl.LOCK_SH)

    def begin(self, entry_id: str) -> E:
        """An attempt starts now, by a process that holds the entry. Raises the kind's CONFLICT when it has ended."""
        with self._changing():
            entry = self.get(entry_id)
            _require(entry, JobState.QUEUED, JobState.RUNNING)
            return self._write(entry, state=JobState.RUNNING, started_ms=now_ms(), attempts=entry.attempts + 1)

    def succeed(self, entry_id: str, **result: object) -> E:
        """The work is done; `result` are fields of the entry's own kind."""
        return self._end(entry_id, JobState.SUCCEEDED, **result)

    def fail(self, entry_id: str, failure: Failure) -> E:
        """The work cannot be done."""
        return self._end(entry_id, JobState.FAILED, failure=failure)

    def hand_back(self, entry_id: str) -> E:
        """The process was told to stop: canceled if that was asked for, else queued again, and that is no death."""
        with self._changing():
            entry = self.get(entry_id)
            if entry.state is not JobState.RUNNING:  # told to stop just before its begin, or just after its end
                return entry
            return self._canceled(entry) if entry.cancel_requested else self._write(entry, state=JobState.QUEUED)

    def died(self, entry_id: str, how: str) -> E:
        """Its process is gone without a word. It is queued again, or failed once that has happened too often without any progress."""
        with self._changing():
            entry = self.get(entry_id)
            if entry.state in FINAL_STATES:
                return entry
            if entry.cancel_requested:
                return self._canceled(entry)
            reached = self._reached(self.folder(entry_id))
            deaths = 1 if reached > entry.reached else entry.deaths + 1
            if deaths < self._most_deaths:
                return self._write(entry, state=JobState.QUEUED, deaths=deaths, reached=reached)
            error = AttemptsExhausted(f"its process died {deaths} times without getting any further, the last time {how}")
            return self._ended(entry, JobState.FAILED, deaths=deaths, reached=reached, failure=Failure.of(error))

    # --- what people ask of it ---------------------------------------------------------------------------------------

    def cancel(self, entry_id: str) -> E:
        """Stop it: at once where nobody works on it, else within seconds. Asking again is harmless.

        Raises the kind's CONFLICT when it has ended otherwise, or has come too far to be stopped.
        """
        with self._changing():
            entry = self.get(entry_id)
            if entry.state is JobState.CANCELED:
                return entry
            if not entry.can_be_canceled:
                raise _conflict(entry)
            if entry.state is JobState.RUNNING and self.is_held(entry_id):
                return entry if entry.cancel_requested else self._write(entry, cancel_requested=True)
            return self._canceled(entry)

    def resume(self, entry_id: str) -> E:
        """Let what failed or was canceled go on from where it stood. Harmless while it is not final.

        Raises the kind's CONFLICT when it succeeded.
        """
        with self._changing():
            entry = self.get(entry_id)
            _require(entry, *(set(JobState) - {JobState.SUCCEEDED}))
            if entry.state not in FINAL_STATES:
                return entry
            return self._write(entry, state=JobState.QUEUED, ended_ms=None, failure=None, cancel_requested=False, deaths=0)

    def delete(self, entry_id: str) -> None:
        """Forget it with everything in its folder. Raises the kind's CONFLICT unless it has ended."""
        with self._changing():
            entry = self.get(entry_id)
            _require(entry, *FINAL_STATES)
            deleted = self.root / f".deleted-{uuid4().hex}"
            self.folder(entry_id).rename(deleted)
            fsync_folder(self.root)
        with storage_errors():
            remove(deleted)

    # --- the one place where states are written ----------------------------------------------------------------------

    def _decode(self, content: bytes) -> E:
        try:
            return self._kind.model_validate_json(content)
        except ValidationError as error:
            raise StorageError(f"a {STATE} is not ours: {error}") from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with storage_errors():
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / LOCK).open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    def _end(self, entry_id: str, state: JobState, **changes: object) -> E:
        with self._changing():
            entry = self.get(entry_id)
            _require(entry, JobState.RUNNING)
            return self._ended(entry, state, **changes)

    def _canceled(self, entry: E) -> E:
        return self._ended(entry, JobState.CANCELED)

    def _ended(self, entry: E, state: JobState, **changes: object) -> E:
        return self._write(entry, state=state, ended_ms=now_ms(), **changes)

    def _write(self, entry: E, **changes: object) -> E:
        changed = entry.model_copy(update={**changes, "revision": entry.revision + 1})
        write_durably(self.folder(entry.id) / STATE, _encode(changed))
        return changed


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _encode(entry: Entry) -> bytes:
    return entry.model_dump_json(indent=1).encode() + b"\n"


def _require(entry: Entry, *states: JobState) -> None:
    if entry.state not in states:
        raise _conflict(entry)


def _conflict(entry: Entry) -> MienError:
    return entry.CONFLICT(f"state: {entry.state}", state=entry.state)


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

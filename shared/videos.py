"""Where an analysis keeps its bytes: one folder per job on a volume that gateway and worker share.

    data/
      incoming/<job id>          an upload that is still being received
      incoming/<job id>.folder   the same on its way to become an analysis
      incoming/<job id>.deleted  an analysis on its way out
      analyses/<job id>/
        manifest.json            the job as it was accepted, from which `shared.upkeep` puts it back into a Redis that lost it
        idempotency.json         the key it was asked for with, if there was one
        video                    the upload, until a while after the end
        windows-<n>.jsonl        what attempt <n> has judged so far: a shared.results.TrackWindow per line
        result-<attempt>.json    shared.results.Result. An attempt writes none but its own; the queue says which one counts
        end.json                 how the job ended, from a while after the end

A file is visible under its final name only when it is whole and on the disk: written aside, fsynced, renamed, and the
folder fsynced. The client's file name appears nowhere.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from shared.errors import InsufficientStorage, MediaMissing, ResultGone, ResultUnreadable, StorageError
from shared.idempotency import Idempotency
from shared.jobs import Contract, Job
from shared.results import Result, TrackWindow

LONGEST_UPLOAD_S: Final = 24 * 3600
LONGEST_DELETION_S: Final = 60
"""After this, whoever began to delete an analysis is dead, and another may go on with it."""

Kind = TypeVar("Kind", bound=Contract)


class End(Contract):
    """How an analysis ended."""

    job: Job
    """The whole record, final."""
    attempt: str = ""
    """The attempt whose result counts; "" unless the job has succeeded."""


class Videos:
    """The data folder. Blocking; the gateway calls it from threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._analyses = root / "analyses"

    def prepare(self) -> None:
        """Make the folders, and drop what a killed gateway left half received or half deleted. Called by each service as it starts."""
        with storage_errors():
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._analyses.mkdir(parents=True, exist_ok=True)
        self.sweep()

    def sweep(self) -> None:
        """Drop uploads that have not grown for a day and so never will, and finish deletions that were broken off."""
        now = time.time()
        with storage_errors():
            for path in self._incoming.iterdir():
                longest_s = LONGEST_DELETION_S if path.suffix == ".deleted" else LONGEST_UPLOAD_S
                with suppress(FileNotFoundError):  # meanwhile it was accepted, given up, or swept by another service
                    if path.stat().st_mtime < now - longest_s:
                        remove(path)

    def check(self) -> None:
        """Raise StorageError unless a small file can be made durable right now."""
        with storage_errors():
            probe = self._incoming / f".probe-{uuid4().hex}"
            try:
                write_durably(probe, b"ok")
            finally:
                probe.unlink(missing_ok=True)

    def incoming(self, job_id: str) -> Path:
        """Where the bytes of an upload go while they arrive."""
        return self._incoming / job_id

    def accept(self, job: Job, idempotency: Idempotency | None = None) -> None:
        """Turn a fully received upload into an analysis folder, durably. After this the job can be promised.

        Goes on where a process that was killed in here has stopped. Raises MediaMissing when there is no such upload.
        """
        with storage_errors():
            folder = self._incoming / f"{job.id}.folder"
            folder.mkdir(exist_ok=True)
            with suppress(FileNotFoundError), self.incoming(job.id).open("rb") as file:
                os.fsync(file.fileno())
                self.incoming(job.id).rename(folder / "video")
            if not (folder / "video").exists():
                folder.rmdir()
                raise MediaMissing
            if idempotency:
                write_durably(folder / "idempotency.json", idempotency.model_dump_json().encode())
            write_durably(folder / "manifest.json", job.model_dump_json(indent=1).encode())
            folder.rename(self._analyses / job.id)
            fsync_folder(self._analyses)

    def ids(self) -> list[str]:
        """The ids of all analyses that are kept, sorted."""
        with storage_errors():
            return sorted(folder.name for folder in self._analyses.iterdir())

    def manifest(self, job_id: str) -> Job:
        """The analysis as it was accepted. Raises MediaMissing when it was deleted, StorageError when this version cannot read it."""
        manifest = self._read(job_id, "manifest.json", Job)
        if manifest is None:
            raise MediaMissing
        return manifest

    def idempotency(self, job_id: str) -> Idempotency | None:
        """The key that the analysis was asked for with. Raises StorageError."""
        return self._read(job_id, "idempotency.json", Idempotency)

    def accepted_at(self, job_id: str) -> float:
        """When the analysis came to be, in Unix seconds of this machine's clock. Raises MediaMissing."""
        with storage_errors():
            try:
                return (self._analyses / job_id / "manifest.json").stat().st_mtime
            except FileNotFoundError:
                raise MediaMissing from None

    def video(self, job_id: str) -> Path:
        """The uploaded file. Raises MediaMissing."""
        path = self._analyses / job_id / "video"
        with storage_errors():
            if not path.is_file():
                raise MediaMissing
        return path

    def add_windows(self, job_id: str, attempt: int, windows: Sequence[TrackWindow]) -> None:
        """Show windows of a running attempt. Not fsynced: a power cut ends the attempt, and the next one judges them again.

        Raises MediaMissing when the analysis was deleted meanwhile.
        """
        lines = "".join(f"{window.model_dump_json()}\n" for window in windows)
        with storage_errors():
            try:
                with self._windows(job_id, attempt).open("a") as file:
                    file.write(lines)
            except FileNotFoundError:
                raise MediaMissing from None

    def begin_windows(self, job_id: str, attempt: int) -> None:
        """Drop what another start of this attempt, or an earlier attempt, has shown. Raises MediaMissing when the analysis was deleted."""
        with storage_errors():
            for path in self._shown(job_id):
                path.unlink(missing_ok=True)
        self.add_windows(job_id, attempt, ())

    def windows(self, job_id: str, attempt: int, *, first: int, most: int) -> list[TrackWindow]:
        """Those windows of an attempt that follow the first `first`, at most `most`; none when there are none yet.

        Raises ResultUnreadable.
        """
        with storage_errors():
            try:
                with self._windows(job_id, attempt).open() as file:
                    whole = (line for line in islice(file, first, first + most) if line.endswith("\n"))  # the last may be half written
                    return [TrackWindow.model_validate_json(line) for line in whole]
            except FileNotFoundError:
                return []
            except ValidationError as error:
                raise ResultUnreadable from error

    def windows_bytes(self, job_id: str) -> int:
        """Size of what attempts have shown so far: it differs when there is more to read."""
        with storage_errors():
            return sum(path.stat().st_size for path in self._shown(job_id) if path.is_file())

    def attempts(self, job_id: str) -> int:
        """The last attempt that has begun to show windows, which is about the first thing that one does; 0 when none has."""
        with storage_errors():
            return max((int(path.stem.removeprefix("windows-")) for path in self._shown(job_id)), default=0)

    def write_result(self, result: Result, attempt: str = "") -> None:
        """Make an attempt's result durable; `attempt` is its lease's token. Raises MediaMissing when the analysis was deleted meanwhile."""
        self._write(result.id, result_name(attempt), result)

    def read_result(self, job_id: str, attempt: str = "") -> Result:
        """The result, which must have been written. Raises ResultGone when it has been deleted since, and ResultUnreadable."""
        with still_there():
            content = self._result(job_id, attempt).read_bytes()
        try:
            return Result.model_validate_json(content)
        except ValidationError as error:
            raise ResultUnreadable from error

    def result_written_ns(self, job_id: str, attempt: str = "") -> int:
        """When the result was written: it says when a result that was read before must be read anew. Raises ResultGone."""
        with still_there():
            return self._result(job_id, attempt).stat().st_mtime_ns

    def results(self, job_id: str) -> list[str]:
        """The attempts that have written a result, the first one first."""
        with storage_errors():
            written = [(path.stat().st_mtime_ns, attempt_of(path)) for path in (self._analyses / job_id).glob("result*.json")]
        return [attempt for _, attempt in sorted(written)]

    def drop_result(self, job_id: str, attempt: str) -> None:
        """Remove a result that does not count, at once; upkeep would within minutes."""
        with storage_errors():
            self._result(job_id, attempt).unlink(missing_ok=True)

    def write_end(self, end: End) -> None:
        """Make durable how a job ended. Raises MediaMissing when the analysis was deleted meanwhile."""
        self._write(end.job.id, "end.json", end)

    def end(self, job_id: str) -> End | None:
        """How the job ended; None while that is not written. Raises StorageError."""
        return self._read(job_id, "end.json", End)

    def clear(self, end: End, *, keep_video: bool) -> None:
        """Remove what nobody needs after the end: the video, results and windows of attempts that do not count, half-written files."""
        with storage_errors():
            folder = self._analyses / end.job.id
            kept = {self._result(end.job.id, end.attempt), self._windows(end.job.id, end.job.attempts)}
            for pattern in ("result-*.json", "windows-*.jsonl", ".*", *([] if keep_video else ["video"])):
                for path in set(folder.glob(pattern)) - kept:
                    path.unlink(missing_ok=True)

    def delete(self, job_id: str) -> dict[str, int]:
        """Remove everything of one analysis, or of an upload that did not become one: what the files of the analysis were called, and
        their sizes in bytes. Empty when there was no analysis.

        The folder is moved away first: whoever writes a result at that moment fails by its path, and nothing comes back. When this
        raises StorageError the same call finishes the work, or a later `prepare` does.
        """
        deleted = self._incoming / f"{job_id}.deleted"
        with storage_errors():
            with suppress(FileNotFoundError):
                (self._analyses / job_id).rename(deleted)
                os.utime(deleted)  # from now on it is being deleted: `sweep` leaves it alone for a while
            for folder in (self._incoming, self._analyses):
                fsync_folder(folder)  # which fails where there is none, unlike the renaming
            removed = sizes(deleted)
            for path in (self.incoming(job_id), self._incoming / f"{job_id}.folder", deleted):
                remove(path)
        return removed

    def _windows(self, job_id: str, attempt: int) -> Path:
        return self._analyses / job_id / f"windows-{attempt}.jsonl"

    def _shown(self, job_id: str) -> Iterator[Path]:
        """The windows of every attempt."""
        return (self._analyses / job_id).glob("windows-*.jsonl")

    def _result(self, job_id: str, attempt: str) -> Path:
        return self._analyses / job_id / result_name(attempt)

    def _write(self, job_id: str, name: str, content: Contract) -> None:
        with storage_errors():
            try:
                write_durably(self._analyses / job_id / name, content.model_dump_json().encode())
            except FileNotFoundError:
                raise MediaMissing from None

    def _read(self, job_id: str, name: str, kind: type[Kind]) -> Kind | None:
        with storage_errors():
            try:
                return kind.model_validate_json((self._analyses / job_id / name).read_bytes())
            except FileNotFoundError:
                return None
            except ValidationError as error:
                raise StorageError(f"the {name} of {job_id} is not one of this version") from error


def result_name(attempt: str) -> str:
    return f"result-{attempt}.json" if attempt else "result.json"


def attempt_of(result: Path) -> str:
    """The inverse of `result_name`."""
    return result.stem.removeprefix("result").removeprefix("-")


def sizes(folder: Path) -> dict[str, int]:
    """Of the files in it, by name, in bytes. Empty when there is no such folder."""
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.is_dir() else {}


def write_durably(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename, fsync the folder: readers see the old file or the new one, also after a power cut."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it. Only what is gone already is no error."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors() -> Iterator[None]:
    """The operating system's errors stop here."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (InsufficientStorage if full else StorageError)(error.strerror or str(error)) from error


@contextmanager
def still_there() -> Iterator[None]:
    """Around reading a result that was there once."""
    with storage_errors():
        try:
            yield
        except FileNotFoundError:
            raise ResultGone("the result has been deleted") from None

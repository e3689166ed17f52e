"""Where an analysis keeps its bytes: one folder per job on a volume that gateway and worker share.

    data/
      incoming/<job id>          an upload that is still being received
      incoming/<job id>.folder   the same on its way to become an analysis
      incoming/<job id>.deleted  an analysis on its way out
      analyses/<job id>/
        manifest.json            the job as it was accepted, so that Redis could be rebuilt
        video                    the upload
        windows-<n>.jsonl        what attempt <n> has judged so far: a shared.results.TrackWindow per line
        result.json              shared.results.Result, once the job has succeeded

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
from typing import Final
from uuid import uuid4

from pydantic import ValidationError

from shared.errors import InsufficientStorage, MediaMissing, ResultGone, ResultUnreadable, StorageError
from shared.jobs import Job
from shared.results import Result, TrackWindow

LONGEST_UPLOAD_S: Final = 24 * 3600


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
            self._sweep(before=time.time() - LONGEST_UPLOAD_S)

    def _sweep(self, *, before: float) -> None:
        """An upload that has not grown since then never will; nobody was promised any of it, or has deleted it since."""
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):  # meanwhile it was accepted, given up, or swept by another service
                if path.stat().st_mtime < before:
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

    def accept(self, job: Job) -> None:
        """Turn a fully received upload into an analysis folder, durably. After this the job can be promised."""
        with storage_errors():
            folder = self._incoming / f"{job.id}.folder"
            folder.mkdir()
            with self.incoming(job.id).open("rb") as file:
                os.fsync(file.fileno())
            self.incoming(job.id).rename(folder / "video")
            write_durably(folder / "manifest.json", job.model_dump_json(indent=1).encode())
            folder.rename(self._analyses / job.id)
            fsync_folder(self._analyses)

    def ids(self) -> list[str]:
        """The ids of all analyses that are kept, sorted."""
        with storage_errors():
            return sorted(folder.name for folder in self._analyses.iterdir())

    def manifest(self, job_id: str) -> Job:
        """The analysis as it was accepted. Raises MediaMissing when it was deleted, StorageError when this version cannot read it."""
        with storage_errors():
            try:
                return Job.model_validate_json((self._analyses / job_id / "manifest.json").read_bytes())
            except FileNotFoundError:
                raise MediaMissing from None
            except ValidationError as error:
                raise StorageError(f"the manifest of {job_id} is not one of this version") from error

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
            for path in (self._analyses / job_id).glob("windows-*.jsonl"):
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

    def write_result(self, result: Result) -> None:
        """Make a result durable. Raises MediaMissing when the analysis was deleted meanwhile."""
        with storage_errors():
            try:
                write_durably(self._result(result.id), result.model_dump_json().encode())
            except FileNotFoundError:
                raise MediaMissing from None

    def read_result(self, job_id: str) -> Result:
        """The result, which must have been written. Raises ResultGone when it has been deleted since, and ResultUnreadable."""
        with still_there():
            content = self._result(job_id).read_bytes()
        try:
            return Result.model_validate_json(content)
        except ValidationError as error:
            raise ResultUnreadable from error

    def result_written_ns(self, job_id: str) -> int:
        """When the result was written: it says when a result that was read before must be read anew. Raises ResultGone."""
        with still_there():
            return self._result(job_id).stat().st_mtime_ns

    def delete(self, job_id: str) -> bool:
        """Remove everything of one analysis, or of an upload that did not become one. False when there was no analysis.

        The folder is moved away first: whoever writes a result at that moment fails by its path, and nothing comes back. When this
        raises StorageError the same call finishes the work, or a later `prepare` does.
        """
        deleted = self._incoming / f"{job_id}.deleted"
        with storage_errors():
            with suppress(FileNotFoundError):
                (self._analyses / job_id).rename(deleted)
            for folder in (self._incoming, self._analyses):
                fsync_folder(folder)  # which fails where there is none, unlike the renaming
            existed = deleted.is_dir()
            for path in (self.incoming(job_id), self._incoming / f"{job_id}.folder", deleted):
                remove(path)
        return existed

    def _windows(self, job_id: str, attempt: int) -> Path:
        return self._analyses / job_id / f"windows-{attempt}.jsonl"

    def _result(self, job_id: str) -> Path:
        return self._analyses / job_id / "result.json"


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

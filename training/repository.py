"""The model repository as it is changed: by one process at a time, and so that others see it before the change or after it.

    models/
      .lock             held by flock while somebody changes the repository
      .new-...          a release that is being written or taken away
      history.json      History: every version that there ever was, and what it was measured against
      mien_000001/      see shared.releases
      mien_000001_frames -> mien_000001/frames      made before the release appears, so that it appears with both

A process may be killed at any moment. What it leaves under other names the next one removes.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import ValidationError

from shared.errors import ModelContractMismatch, PublicationConflict
from shared.jobs import Contract, Milliseconds
from shared.releases import CARD, GRAPHS, MANIFEST, SIGNATURE, Release, Sha256, file_sha256, folder_name, link_target, model_name, published
from shared.signatures import Signer
from shared.videos import fsync_folder, remove, storage_errors, write_durably

HISTORY: Final = "history.json"
LOCK: Final = ".lock"
ASIDE: Final = ".new-"


class Check(Contract):
    """One thing that a candidate had to be good enough in."""

    name: str
    candidate: float
    champion: float | None
    """Null where there was none, or where it does not matter what the champion does."""
    limit: float
    """The worst that would have passed."""
    passed: bool


class Published(Contract):
    """One version that was published."""

    version: int
    sha256: Sha256
    """Of its `release.json`, which names the digests of all else."""
    published_ms: Milliseconds
    champion: int | None = None
    """The release that it was measured against."""
    checks: tuple[Check, ...] = ()
    """How it came through the gate; empty where it did not have to, as the release that ships."""


class History(Contract):
    """`history.json`: versions stay in it when their folders go, so that no number is ever used twice."""

    releases: tuple[Published, ...] = ()
    """Oldest first."""


class Repository:
    """One model repository. Every call raises StorageError when the disk does not take or give the bytes."""

    def __init__(self, models: Path) -> None:
        self.models = models

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the one who changes it. Raises PublicationConflict when somebody else is."""
        with storage_errors():
            self.models.mkdir(parents=True, exist_ok=True)
            lock = (self.models / LOCK).open("a")
        with lock:  # the kernel lets go of it with the process, however that ends
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PublicationConflict(f"{self.models.name} is being changed by another process") from None
            self._sweep()
            yield

    def folder(self, version: int) -> Path:
        return self.models / folder_name(version)

    def history(self) -> History:
        """Raises ModelContractMismatch when it cannot be read: without it an old version might pass for a new one."""
        with storage_errors():
            try:
                return History.model_validate_json((self.models / HISTORY).read_bytes())
            except FileNotFoundError:
                return History()
            except ValidationError as error:
                raise ModelContractMismatch(f"{HISTORY}: {error}") from error

    def highest(self) -> int:
        """The highest version that was ever published; 0 when none was."""
        return max((*(entry.version for entry in self.history().releases), *published(self.models)), default=0)

    def add(self, version: int, write: Callable[[Path], None]) -> None:
        """Let `write` fill an empty folder, make it durable, and publish it as this version in one rename."""
        aside = self._aside()
        with storage_errors():
            try:
                aside.mkdir()
                write(aside)
                _fsync_all(aside)
                self.link(version)
                aside.rename(self.folder(version))
            except BaseException:
                remove(aside)
                self._unlink(version)
                raise
            fsync_folder(self.models)

    def link(self, version: int) -> None:
        """Make the names that Triton knows a release by, where they are missing."""
        with storage_errors():
            for graph in GRAPHS:
                link, target = self.models / model_name(version, graph), link_target(version, graph)
                if not (link.is_symlink() and link.readlink() == target):
                    aside = self._aside()
                    aside.symlink_to(target)
                    aside.rename(link)  # in one step: nobody sees it missing once it has been there
            fsync_folder(self.models)

    def sign(self, version: int, signer: Signer) -> None:
        """Sign a release that is published already."""
        aside = self._aside()
        with storage_errors():
            write_durably(aside, signer.signature(self.folder(version)))
            aside.rename(self.folder(version) / SIGNATURE)
            fsync_folder(self.folder(version))

    def withdraw(self, version: int) -> None:
        """Take a release away again, as if it had never been there."""
        aside = self._aside()
        with storage_errors():
            self.folder(version).rename(aside)
            self._unlink(version)
            fsync_folder(self.models)
            remove(aside)

    def remember(self, version: int, *, champion: int | None = None, checks: tuple[Check, ...] = ()) -> None:
        """Write down that a version is published. Doing so again keeps when it was first."""
        with storage_errors():
            digest = file_sha256(self.folder(version) / MANIFEST)
        before = {entry.version: entry for entry in self.history().releases}
        since_ms = before[version].published_ms if version in before else time.time_ns() // 1_000_000
        before[version] = Published(version=version, sha256=digest, published_ms=since_ms, champion=champion, checks=checks)
        history = History(releases=tuple(entry for _, entry in sorted(before.items())))
        with storage_errors():
            write_durably(self.models / HISTORY, history.model_dump_json(indent=1).encode() + b"\n")

    def _aside(self) -> Path:
        return self.models / f"{ASIDE}{uuid4().hex}"

    def _unlink(self, version: int) -> None:
        for graph in GRAPHS:
            (self.models / model_name(version, graph)).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what a killed process left: nobody but the holder of the lock makes any of it."""
        with storage_errors():
            for path in (*self.models.glob(f"*{ASIDE}*"), *self.models.glob(f".{HISTORY}.*")):
                path.unlink() if path.is_symlink() else remove(path)
            for graph in GRAPHS:
                for link in self.models.glob(f"mien_*_{graph}"):
                    if link.is_symlink() and not link.exists():
                        link.unlink()


def same(release: Release, published_as: Release) -> bool:
    """Whether a published release is what this one becomes when its graphs are built. A card may have been written since."""
    digests = (published_as.files.get(name, digest if name == CARD else None) for name, digest in release.files.items())
    return published_as.model_copy(update={"files": dict(zip(release.files, digests, strict=True))}) == release


def _fsync_all(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            with Path(root, name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(root))

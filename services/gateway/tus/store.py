"""Where uploads lie until they are whole, and how many of their bytes are safe there.

    data/uploads/<upload id>/
      record.json   services.gateway.tus.record.Upload
      bytes         what has arrived; moves away when it becomes an analysis
      unverified    while bytes with a checksum arrive: the offset before them, which is the one that counts

The offset is the size of `bytes`, fsynced before anybody is told; no second place could disagree with it. Whoever changes an upload
holds a lock on its folder, which dies with its process.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from services.gateway.tus.errors import UploadBusy, UploadNotFound
from services.gateway.tus.record import LIVES_MS, Upload, now_ms
from shared.errors import QuotaExceeded
from shared.jobs import Tenant
from shared.videos import fsync_folder, storage_errors, write_durably

MOST_OPEN: Final = 100
"""Unfinished uploads of one tenant."""


class Uploads:
    """Blocking; the gateway calls it from threads. Every call raises StorageError when the disk does not take or give bytes."""

    def __init__(self, data: Path) -> None:
        self._root = data / "uploads"

    def prepare(self) -> None:
        with storage_errors():
            self._root.mkdir(parents=True, exist_ok=True)

    def create(self, upload: Upload) -> None:
        """Raises QuotaExceeded."""
        if sum(other.tenant == upload.tenant and not other.finished for other in self.all()) >= MOST_OPEN:
            raise QuotaExceeded(f"{MOST_OPEN} uploads are open", quota="open-uploads")
        with storage_errors():
            try:
                self._folder(upload.id).mkdir()
                self._bytes(upload.id).touch()
                self.save(upload)
                fsync_folder(self._root)
            except BaseException:
                shutil.rmtree(self._folder(upload.id), ignore_errors=True)
                raise

    def save(self, upload: Upload) -> Upload:
        """Raises UploadNotFound when it was removed meanwhile."""
        with storage_errors():
            try:
                write_durably(self._folder(upload.id) / "record.json", upload.model_dump_json().encode())
            except FileNotFoundError:
                raise UploadNotFound from None
        return upload

    def get(self, upload_id: str, tenant: Tenant) -> Upload:
        """Raises UploadNotFound, for another tenant's as well."""
        upload = self._read(upload_id)
        if upload is None or upload.tenant != tenant or upload.is_expired:
            raise UploadNotFound
        return upload

    def all(self) -> list[Upload]:
        """Every tenant's, those that have expired included."""
        with storage_errors():
            ids = sorted(folder.name for folder in self._root.iterdir())
        return [upload for upload in map(self._read, ids) if upload]

    def offset(self, upload: Upload) -> int:
        """How many bytes are on the disk to stay, from now on. May be asked while another request adds to them."""
        if upload.sha256:
            return upload.length
        doubted = self._doubted(upload.id)
        with storage_errors():
            try:
                with self._bytes(upload.id).open("rb") as file:
                    os.fdatasync(file.fileno())
                    size = os.fstat(file.fileno()).st_size
            except FileNotFoundError:
                return self._read_on(upload).length
        doubted = self._doubted(upload.id) if doubted is None else doubted  # it may have begun meanwhile
        return size if doubted is None else doubted

    def hold(self, upload_id: str) -> int:
        """A descriptor that keeps everybody else from changing the upload until it is closed. Raises UploadBusy, UploadNotFound."""
        with storage_errors():
            try:
                descriptor = os.open(self._folder(upload_id), os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                raise UploadNotFound from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise UploadBusy from None
            return descriptor

    def open_at_end(self, upload: Upload) -> BinaryIO:
        """Its bytes, to be added to; those that a killed gateway has not come to verify are dropped first. Whoever calls holds it."""
        with storage_errors():
            doubted = self._doubted(upload.id)
            if doubted is not None:
                self.drop_unverified(upload, doubted)
            try:
                return self._bytes(upload.id).open("r+b", buffering=0)
            except FileNotFoundError:
                raise UploadNotFound from None

    def doubt(self, upload: Upload, offset: int) -> None:
        """Bytes from here on do not count until `trust` is called."""
        with storage_errors():
            write_durably(self._unverified(upload.id), str(offset).encode())

    def trust(self, upload: Upload) -> None:
        with storage_errors():
            self._unverified(upload.id).unlink(missing_ok=True)
            fsync_folder(self._folder(upload.id))

    def drop_unverified(self, upload: Upload, offset: int) -> None:
        with storage_errors():
            os.truncate(self._bytes(upload.id), offset)
            self.trust(upload)

    def seal(self, upload: Upload) -> Upload:
        """The upload is whole: what its bytes come to is written down, once."""
        if upload.sha256:
            return upload
        with storage_errors(), self._bytes(upload.id).open("rb") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return self.save(upload.model_copy(update={"sha256": sha256}))

    def hand_over(self, upload: Upload, to: Path) -> None:
        """Move the bytes of a sealed upload; harmless when they were moved already."""
        with storage_errors(), suppress(FileNotFoundError):
            self._bytes(upload.id).rename(to)

    def delete(self, upload_id: str) -> None:
        """The record first: without one, nobody knows the upload any more."""
        with storage_errors(), suppress(FileNotFoundError):
            (self._folder(upload_id) / "record.json").unlink(missing_ok=True)
            shutil.rmtree(self._folder(upload_id))

    def sweep(self) -> None:
        """Remove what has expired. A folder without a record, of which nobody was ever told, counts from its making."""
        with storage_errors():
            for folder in self._root.iterdir():
                with suppress(UploadBusy, UploadNotFound, FileNotFoundError):
                    upload = self._read(folder.name)
                    if upload.is_expired if upload else now_ms() - folder.stat().st_mtime * 1000 > LIVES_MS:
                        with self._held(folder.name):
                            self.delete(folder.name)

    @contextmanager
    def _held(self, upload_id: str) -> Iterator[None]:
        descriptor = self.hold(upload_id)
        try:
            yield
        finally:
            os.close(descriptor)

    def _read(self, upload_id: str) -> Upload | None:
        with storage_errors():
            try:
                return Upload.model_validate_json((self._folder(upload_id) / "record.json").read_bytes())
            except (FileNotFoundError, ValidationError):
                return None

    def _read_on(self, upload: Upload) -> Upload:
        """The record as it is by now. Raises UploadNotFound."""
        later = self._read(upload.id)
        if later is None or later.sha256 is None:
            raise UploadNotFound
        return later

    def _doubted(self, upload_id: str) -> int | None:
        with storage_errors():
            try:
                return int(self._unverified(upload_id).read_text())
            except FileNotFoundError:
                return None

    def _folder(self, upload_id: str) -> Path:
        return self._root / upload_id

    def _bytes(self, upload_id: str) -> Path:
        return self._folder(upload_id) / "bytes"

    def _unverified(self, upload_id: str) -> Path:
        return self._folder(upload_id) / "unverified"

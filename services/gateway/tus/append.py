"""A request's body onto the end of an upload: whatever arrives before the line breaks counts, and nothing is counted twice."""

import asyncio
import hashlib
import os
from contextlib import aclosing
from typing import BinaryIO, Final

from anyio import to_thread
from fastapi import Request

from services.gateway.tus.errors import UploadChecksumMismatch
from services.gateway.tus.headers import Checksum
from services.gateway.tus.record import Upload
from services.gateway.tus.store import Uploads
from services.gateway.uploads import BATCH_BYTES, UploadLimits, paced, too_large
from shared.videos import storage_errors

SYNC_BYTES: Final = 8 * BATCH_BYTES
"""What a power cut may cost at most; a gateway that is killed loses one batch."""


async def append(
    request: Request, upload: Upload, *, uploads: Uploads, offset: int, checksum: Checksum | None, limits: UploadLimits
) -> None:
    """Add the body of `request`, which begins at `offset`. Whoever calls holds the upload.

    Raises UploadTooLarge (it goes beyond the upload's length), UploadTooSlow, UploadChecksumMismatch, StorageError, UploadNotFound,
    and starlette's ClientDisconnect. Whatever is raised: without a checksum, what arrived before is kept; with one, nothing is.
    """
    if checksum is not None:
        await to_thread.run_sync(uploads.doubt, upload, offset)
    file = await to_thread.run_sync(uploads.open_at_end, upload)
    tail = Tail(file, offset=offset, length=upload.length, algorithm=checksum.algorithm if checksum else None)
    try:
        await add(request, tail, limits=limits)
        if checksum is not None:
            await to_thread.run_sync(verify, upload, uploads, tail, checksum)
    finally:
        file.close()


async def add(request: Request, tail: "Tail", *, limits: UploadLimits) -> None:
    try:
        async with aclosing(paced(request, limits)) as chunks:
            async for chunk in chunks:
                await tail.write(chunk)
        await to_thread.run_sync(tail.settle)
    except asyncio.CancelledError:
        tail.settle()  # the server is stopping, and waits for nobody: now or never
        raise
    except Exception:
        await to_thread.run_sync(tail.settle)
        raise


def verify(upload: Upload, uploads: Uploads, tail: "Tail", checksum: Checksum) -> None:
    """Section "Checksum": all of the body counts, or nothing."""
    if not tail.hash or not checksum.fits(tail.hash):
        uploads.drop_unverified(upload, tail.began_at)
        raise UploadChecksumMismatch
    uploads.trust(upload)


class Tail:
    """The end of a file, written off the event loop."""

    def __init__(self, file: BinaryIO, *, offset: int, length: int, algorithm: str | None) -> None:
        self.began_at = offset
        self.hash = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
        self._file = file
        self._left = length - offset
        self._length = length
        self._at = offset
        self._batch = bytearray()
        self._unsynced = 0

    async def write(self, chunk: bytes) -> None:
        """Raises UploadTooLarge, and keeps none of the chunk, when it goes beyond the end."""
        if len(chunk) > self._left:
            raise too_large(self._length)
        self._left -= len(chunk)
        self._batch += chunk
        if len(self._batch) >= BATCH_BYTES:
            await to_thread.run_sync(self._store)

    def settle(self) -> None:
        """Everything that was written is on the disk."""
        self._store()
        self._sync()

    def _store(self) -> None:
        batch, self._batch = self._batch, bytearray()
        with storage_errors():
            rest = memoryview(batch)
            while rest:  # an unbuffered file may take less than it is given, and does so where the disk fills up
                written = os.pwrite(self._file.fileno(), rest, self._at)
                self._at += written
                rest = rest[written:]
        if self.hash:
            self.hash.update(batch)
        self._unsynced += len(batch)
        if self._unsynced >= SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        with storage_errors():
            os.fdatasync(self._file.fileno())
        self._unsynced = 0

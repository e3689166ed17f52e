"""A whole upload becomes an analysis, once. Every step may be done again, so that it goes on where a killed gateway has stopped."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread

from services.gateway.acceptance import job_of
from services.gateway.tus.errors import UploadBusy, UploadNotFound
from services.gateway.tus.record import Upload
from services.gateway.tus.store import Uploads
from shared.errors import MediaMissing, MienError, QueueUnavailable
from shared.jobs import Job
from shared.queue import GatewayQueue
from shared.videos import Videos

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0


class Finisher:
    """Makes analyses of the uploads that are whole."""

    def __init__(self, uploads: Uploads, *, videos: Videos, queue: GatewayQueue) -> None:
        self._uploads = uploads
        self._videos = videos
        self._queue = queue

    async def finish(self, upload: Upload) -> Upload:
        """The upload as it is afterwards; whoever calls holds it. Nothing is done to one that has bytes missing, or is finished.

        Raises StorageError, QueueUnavailable, QueueFull, QuotaExceeded. Then the bytes stay, and another call may have more luck.
        """
        if upload.finished or await to_thread.run_sync(self._uploads.offset, upload) < upload.length:
            return upload
        upload = await to_thread.run_sync(self._uploads.seal, upload)
        job = await to_thread.run_sync(self.accepted, upload)
        if job is None:
            await self._queue.require_room(upload.tenant, size_bytes=upload.length)
            job = await to_thread.run_sync(self._accept, upload)
        if job is not None:
            await self._queue.submit(job)
            log.info("accepted", extra={"upload_id": upload.id, "job_id": job.id, "size_bytes": job.size_bytes})
        return await to_thread.run_sync(self._uploads.save, upload.model_copy(update={"finished": True}))

    def accepted(self, upload: Upload) -> Job | None:
        """The analysis that the upload has become, if there is one and as it was accepted. Blocking. Raises StorageError."""
        try:
            return self._videos.manifest(upload.job_id)
        except MediaMissing:
            return None

    async def tend(self) -> None:
        """Every minute, beginning now: finish what others could not, and remove what has expired."""
        while True:
            try:
                await to_thread.run_sync(self._uploads.sweep)
                for upload in await to_thread.run_sync(self._uploads.all):
                    await self._try(upload)
            except MienError as error:  # the next minute may have more luck
                log.warning("uploads not tended", extra={"reason": str(error.__cause__ or error.title())})
            await asyncio.sleep(EVERY_S)

    async def _try(self, upload: Upload) -> None:
        if upload.finished:
            return
        try:
            async with holding(self._uploads, upload.id):
                await self.finish(await to_thread.run_sync(self._uploads.get, upload.id, upload.tenant))
        except (UploadBusy, UploadNotFound):
            return  # whoever is at it will finish it
        except QueueUnavailable:
            raise  # without a queue, none can be finished
        except MienError as error:  # of this one: the others are not to wait for it
            log.warning("upload not finished", extra={"upload_id": upload.id, "reason": str(error.__cause__ or error.title())})

    def _accept(self, upload: Upload) -> Job | None:
        """The job, on the disk; None when it was accepted before and is deleted by now."""
        assert upload.sha256 is not None  # noqa: S101 -- it is sealed
        job = job_of(
            upload.job_id,
            tenant=upload.tenant,
            size_bytes=upload.length,
            sha256=upload.sha256,
            options=upload.options,
            request_id=upload.request_id,
            traceparent=upload.traceparent,
        )
        self._uploads.hand_over(upload, self._videos.incoming(job.id))
        try:
            self._videos.accept(job)
        except MediaMissing:
            return None
        return job


@asynccontextmanager
async def holding(uploads: Uploads, upload_id: str) -> AsyncIterator[None]:
    """Nobody else changes the upload meanwhile. Raises UploadBusy, UploadNotFound, StorageError."""
    descriptor = await to_thread.run_sync(uploads.hold, upload_id)
    try:
        yield
    finally:
        os.close(descriptor)

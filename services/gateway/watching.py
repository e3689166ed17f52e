"""Who listens to which analysis. One task per gateway looks for all of them at once: a listener costs no connection of its own.

What it compares is a number from the record and the size of a file. A record that has changed is read once for all who listen.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from anyio import to_thread

from shared.errors import JobNotFound, QueueUnavailable, QuotaExceeded, StorageError
from shared.jobs import Tenant
from shared.queue import GatewayQueue, Look
from shared.videos import Videos

log = logging.getLogger(__name__)

EVERY_S: Final = 0.25
AT_ONCE: Final = 500
"""Analyses that Redis is asked about in one call."""
READ_AT_ONCE: Final = 8
"""Records that are read at the same time, each over a connection."""
MOST_OF_TENANT: Final = 100
"""Listeners of one tenant at one gateway."""


@dataclass(eq=False)
class Watch:
    """One listener's view of one analysis."""

    job_id: str
    look: Look | None
    """As it was last seen; None when nobody knows it, as after it was deleted."""
    windows_bytes: int = -1
    """Size of the windows that are shown."""
    over: bool = False
    """The gateway is stopping."""

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    def notice(self, look: Look | None, windows_bytes: int) -> None:
        if (look, windows_bytes) != (self.look, self.windows_bytes):
            self.look, self.windows_bytes = look, windows_bytes
            self._changed.set()

    def end(self) -> None:
        self.over = True
        self._changed.set()

    async def change(self, *, within_s: float) -> None:
        """Return at the next change since the last call, or after that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


class Watching:
    """All listeners of one gateway."""

    def __init__(self, queue: GatewayQueue, videos: Videos) -> None:
        self._queue = queue
        self._videos = videos
        self._watches: set[Watch] = set()
        self._listeners: Counter[Tenant] = Counter()
        self._wanted = asyncio.Event()
        self._over = False
        self._known: dict[str, Look] = {}
        """What is listened to, as it was last read."""

    @contextmanager
    def watch(self, look: Look) -> Iterator[Watch]:
        """From this look on. Raises QuotaExceeded."""
        tenant = look.job.tenant
        if self._listeners[tenant] >= MOST_OF_TENANT:
            raise QuotaExceeded(quota="listeners")
        watch = Watch(look.job.id, look, over=self._over)
        self._listeners[tenant] += 1
        self._watches.add(watch)
        self._wanted.set()
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            self._listeners[tenant] -= 1

    def end(self) -> None:
        """Let all listeners go: another gateway goes on where they are."""
        self._over = True
        for watch in self._watches:
            watch.end()

    async def run(self) -> None:
        """Look for changes as long as somebody listens, until this is canceled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._watches:
                try:
                    await self._look()
                except (QueueUnavailable, StorageError) as error:
                    log.warning("listeners wait", extra={"reason": str(error.__cause__ or error)})
                await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        job_ids = sorted({watch.job_id for watch in self._watches})
        revisions: dict[str, int | None] = {}
        for some in batches(job_ids, AT_ONCE):
            revisions |= await self._queue.revisions(some)
        await self._read(revisions)
        sizes = await to_thread.run_sync(self._sizes, job_ids)
        for watch in self._watches:
            if watch.job_id in sizes:
                watch.notice(self._known.get(watch.job_id), sizes[watch.job_id])

    async def _read(self, revisions: Mapping[str, int | None]) -> None:
        """Know the records as they are, and no others."""
        self._known = {job_id: look for job_id, look in self._known.items() if revisions.get(job_id) is not None}
        old = {job_id: look.revision for job_id, look in self._known.items()}
        changed = [job_id for job_id, revision in revisions.items() if revision is not None and old.get(job_id) != revision]
        for some in batches(changed, READ_AT_ONCE):
            looks = await asyncio.gather(*map(self._queue.look, some), return_exceptions=True)
            for job_id, look in zip(some, looks, strict=True):
                if isinstance(look, Look):
                    self._known[job_id] = look
                elif not isinstance(look, JobNotFound):
                    raise look

    def _sizes(self, job_ids: Sequence[str]) -> dict[str, int]:
        return {job_id: self._videos.windows_bytes(job_id) for job_id in job_ids}


def batches(job_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (job_ids[first : first + size] for first in range(0, len(job_ids), size))

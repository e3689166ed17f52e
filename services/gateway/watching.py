"""Who listens to which analysis. One task per gateway looks for all of them at once: a listener costs no connection of its own.

What it compares is a number from the record and the size of a file; what has changed is read by those who listen.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from anyio import to_thread

from shared.errors import QueueUnavailable, QuotaExceeded, StorageError
from shared.jobs import Tenant
from shared.queue import GatewayQueue
from shared.videos import Videos

log = logging.getLogger(__name__)

EVERY_S: Final = 0.25
AT_ONCE: Final = 500
"""Analyses that Redis is asked about in one call."""
MOST_OF_TENANT: Final = 100
"""Listeners of one tenant at one gateway."""

Mark = tuple[int | None, int]
"""A record's revision, None when it is unknown, and the size of the windows that are shown."""


@dataclass(eq=False)
class Watch:
    """One listener's view of one analysis."""

    job_id: str
    seen: Mark | None = None
    """None before the first look."""
    over: bool = False
    """The gateway is stopping."""

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    def notice(self, mark: Mark) -> None:
        if mark != self.seen:
            self.seen = mark
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

    @contextmanager
    def watch(self, job_id: str, tenant: Tenant) -> Iterator[Watch]:
        """Raises QuotaExceeded."""
        if self._listeners[tenant] >= MOST_OF_TENANT:
            raise QuotaExceeded(quota="listeners")
        watch = Watch(job_id, over=self._over)
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
        marks: dict[str, Mark] = {}
        for first in range(0, len(job_ids), AT_ONCE):
            some = job_ids[first : first + AT_ONCE]
            revisions = await self._queue.revisions(some)
            sizes = await to_thread.run_sync(self._sizes, some)
            marks |= {job_id: (revisions[job_id], sizes[job_id]) for job_id in some}
        for watch in self._watches:
            if watch.job_id in marks:
                watch.notice(marks[watch.job_id])

    def _sizes(self, job_ids: list[str]) -> dict[str, int]:
        return {job_id: self._videos.windows_bytes(job_id) for job_id in job_ids}

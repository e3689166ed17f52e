"""What is kept is kept for as long as was said, and what was accepted is never forgotten: `shared.upkeep`, again and again.

Any number of gateways may do this at once, for each of its steps may be done twice; so there is no lease, and no gateway is special.
"""

import asyncio
import logging
from contextlib import closing
from functools import partial
from time import monotonic
from typing import Final

from anyio import to_thread

from services.gateway.metrics import Metrics
from shared.errors import MienError
from shared.queue_upkeep import UpkeepQueue
from shared.upkeep import reconcile, tidy
from shared.videos import Videos

log = logging.getLogger(__name__)

TIDY_EVERY_S: Final = 60.0
"""With `upkeep.SETTLED_S`, a video is gone about two minutes after the end, and surely within five."""
LOOK_EVERY_S: Final = 5.0
"""How soon a Redis that has lost its data is noticed."""
QUEUES_WITHIN_S: Final = 5.0
"""By then a gateway has queued what it had accepted, or taken it back: it waits two seconds for Redis."""


class Retention:
    """Looks after data folder and Redis for as long as the gateway runs."""

    def __init__(self, redis_url: str, videos: Videos, metrics: Metrics, *, queues_within_s: float = QUEUES_WITHIN_S) -> None:
        self._url = redis_url
        self._videos = videos
        self._metrics = metrics
        self._queues_within_s = queues_within_s
        self._generation = ""

    async def run(self, *, tidy_every_s: float = TIDY_EVERY_S, look_every_s: float = LOOK_EVERY_S) -> None:
        """Until it is canceled. A Redis or a disk that is away is waited for."""
        tidied_s = monotonic()
        with closing(UpkeepQueue(self._url)) as queue:
            while True:
                try:
                    await self._look(queue)
                    if monotonic() - tidied_s >= tidy_every_s:
                        # A disk or a Redis that hangs must not keep the gateway from stopping.
                        done = await to_thread.run_sync(tidy, self._videos, queue, abandon_on_cancel=True)
                        self._metrics.tidied(done)
                        tidied_s = monotonic()
                except MienError as error:
                    log.warning("no upkeep", extra={"code": error.code(), "reason": str(error.__cause__ or error.title())})
                await asyncio.sleep(look_every_s)

    async def _look(self, queue: UpkeepQueue) -> None:
        """Tell Redis what was accepted, if it is one that has not been told: at the start, and when it has lost its data."""
        generation = await to_thread.run_sync(queue.generation, abandon_on_cancel=True)
        if generation == self._generation:
            return
        settled_s = 0.0
        if self._generation:
            log.error("redis has lost its data")
            settled_s = self._queues_within_s
            await asyncio.sleep(settled_s)
        restored, _ = await to_thread.run_sync(partial(reconcile, self._videos, queue, settled_s=settled_s), abandon_on_cancel=True)
        self._metrics.restored(restored)
        self._generation = generation

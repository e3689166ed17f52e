"""Tasks that go on beside the requests, for as long as the service does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]

AGAIN_S: Final = 1.0


@asynccontextmanager
async def background(*works: Work) -> AsyncIterator[None]:
    """Run each until the block ends. One that fails has a bug, which is logged; it begins anew."""
    tasks = [asyncio.create_task(kept_up(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def kept_up(work: Work) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("begins anew", extra={"work": work.__qualname__})
        await asyncio.sleep(AGAIN_S)

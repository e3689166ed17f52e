"""Tasks that go on beside the requests, for as long as the service does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]

AGAIN_S: Final = 1.0
HEEDS_WITHIN_S: Final = 5.0
"""By then a task that was canceled has ended, or has never heard of it."""


@asynccontextmanager
async def background(*works: Work) -> AsyncIterator[None]:
    """Run each until the block ends. One that fails has a bug, which is logged; it begins anew."""
    tasks = {asyncio.create_task(kept_up(work), name=work.__qualname__) for work in works}
    try:
        yield
    finally:
        await ended(tasks)


async def ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them until they have ended: whatever they call may swallow a cancellation, and a service must not wait for ever to stop."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=HEEDS_WITHIN_S)
        for task in tasks:
            log.warning("canceled again", extra={"work": task.get_name(), "stack": [str(frame) for frame in task.get_stack()]})


async def kept_up(work: Work) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("begins anew", extra={"work": work.__qualname__})
        await asyncio.sleep(AGAIN_S)

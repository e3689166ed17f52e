"""The task that tells: makes deliveries of what has ended, and tries those that are due. Any number of gateways share the work.

Whatever is under way when a gateway dies is due again when its lease has run out, so it is done at least once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import uuid4

from anyio import to_thread

from services.gateway.webhooks import messages
from services.gateway.webhooks.records import OF_STATE, DisabledBy, Webhook, Webhooks
from services.gateway.webhooks.retries import WAITS_S, next_in_s
from services.gateway.webhooks.sending import Answer, Sender
from services.gateway.webhooks.signing import signed_headers
from shared.deliveries import Attempt, Claimed, Deliveries, Outcome
from shared.errors import QueueUnavailable, StorageError, WebhookNotFound
from shared.jobs import Job

log = logging.getLogger(__name__)

Found = TypeVar("Found")

GONE: Final = 410
AT_ONCE: Final = 32
"""Tries under way in one gateway."""
AT_ONCE_OF_WEBHOOK: Final = 4
"""Of these to one webhook: one that hangs does not keep the others waiting."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How patiently it is told."""

    waits_s: Sequence[float] = WAITS_S
    timeout_s: float = 15.0
    """Of one try."""
    lease_s: float = 45.0
    """After which a try whose gateway fell silent is made again; longer than any try takes."""
    look_every_s: float = 0.5
    public_url: str = ""
    """What comes before the paths that are told."""


class Courier:
    """One gateway's part of it."""

    def __init__(
        self, deliveries: Deliveries, webhooks: Webhooks, sender: Sender, terms: Terms, *, tried: Callable[[Outcome], None]
    ) -> None:
        """`tried` is called with what came of each try."""
        self._deliveries = deliveries
        self._webhooks = webhooks
        self._sender = sender
        self._terms = terms
        self._tried = tried
        self._under_way: Counter[str] = Counter()
        self._tries: set[asyncio.Task[None]] = set()

    async def announce(self) -> None:
        """Make the deliveries of whatever ends, until this is canceled."""
        while True:
            job = await self._next(lambda: self._deliveries.ended(lease_s=self._terms.lease_s))
            await self._guarded(self._announce(job))

    async def deliver(self) -> None:
        """Try whatever is due, until this is canceled. What is under way then is due again after its lease."""
        slots = asyncio.Semaphore(AT_ONCE)
        try:
            while True:
                await slots.acquire()
                claimed = await self._next(self._claim)
                self._under_way[claimed.webhook] += 1  # here: the task starts only after the next claim has looked
                task = asyncio.create_task(self._try(claimed))
                self._tries.add(task)
                task.add_done_callback(self._tries.discard)
                task.add_done_callback(lambda _: slots.release())
        finally:
            for task in self._tries:
                task.cancel()
            await asyncio.gather(*self._tries, return_exceptions=True)

    async def _next(self, ask: Callable[[], Awaitable[Found | None]]) -> Found:
        """The next piece of work, once there is one."""
        while True:
            try:
                if found := await ask():
                    return found
            except QueueUnavailable as error:
                log.warning("nobody is told", extra={"reason": str(error.__cause__ or error)})
            await asyncio.sleep(self._terms.look_every_s)

    async def _guarded(self, work: Awaitable[None]) -> None:
        """What cannot be done now is done by whoever finds the lease run out."""
        try:
            await work
        except (QueueUnavailable, StorageError) as error:
            log.warning("told later", extra={"reason": str(error.__cause__ or error)})

    async def _announce(self, job: Job) -> None:
        event, at_ms = OF_STATE[job.state], job.ended_ms or 0
        known = await to_thread.run_sync(self._webhooks.of_tenant, job.tenant)
        told = [messages.about(job, one, public_url=self._terms.public_url) for one in known if one.hears_of(event, at_ms=at_ms)]
        await self._deliveries.announce(job.id, told)

    async def _claim(self) -> Claimed | None:
        busy = [webhook for webhook, count in self._under_way.items() if count >= AT_ONCE_OF_WEBHOOK]
        return await self._deliveries.claim(uuid4().hex, lease_s=self._terms.lease_s, busy=busy)

    async def _try(self, claimed: Claimed) -> None:
        try:
            await self._guarded(self._deliver(claimed))
        finally:
            self._under_way -= Counter([claimed.webhook])

    async def _deliver(self, claimed: Claimed) -> None:
        webhook = await to_thread.run_sync(self._webhooks.find, claimed.webhook)
        if webhook is None:
            await self._deliveries.forget(claimed.webhook)
            return
        at_ms = now_ms()
        answer = Answer(Outcome.DISABLED) if webhook.disabled_by else await self._send(claimed, webhook, at_ms)
        if answer.status == GONE:
            await self._disable(webhook)
        is_over = answer.status == GONE or answer.outcome is Outcome.DISABLED
        wait_s = None if is_over else next_in_s(claimed.tries, self._terms.waits_s, asked_s=answer.retry_after_s)
        attempt = Attempt(at_ms=at_ms, took_ms=max(0, now_ms() - at_ms), outcome=answer.outcome, status=answer.status)
        await self._deliveries.settle(claimed, attempt, next_in_s=wait_s)
        self._tried(answer.outcome)
        outcome = {"try": claimed.tries, "outcome": answer.outcome, "status": answer.status, "next_in_s": wait_s}
        log.info("told", extra={"webhook_id": webhook.id, "delivery_id": claimed.id, **outcome})

    async def _send(self, claimed: Claimed, webhook: Webhook, at_ms: int) -> Answer:
        headers = signed_headers(claimed.id, claimed.payload, webhook.secrets, now_ms=at_ms)
        return await self._sender.send(webhook.url, headers, claimed.payload)

    async def _disable(self, webhook: Webhook) -> None:
        def disabled(one: Webhook) -> Webhook:
            return one.model_copy(update={"disabled_by": DisabledBy.RECEIVER})

        try:
            await to_thread.run_sync(self._webhooks.change, webhook.tenant, webhook.id, disabled)
        except WebhookNotFound:
            return  # deleted meanwhile


def now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Webhook deliveries, in Redis: what is to be told to whom, what came of each try, and who is at it.

`queue.lua` writes that a job has ended in the same command that ends it. From there on a lease passes each piece of work from whoever
dies to whoever lives, so a delivery is made at least once; its id never changes, by which a receiver knows a repetition.
"""

import json
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from shared.errors import DeliveryNotFound
from shared.jobs import Contract, Job, Milliseconds
from shared.queue_script import ImpatientScript, decode, milliseconds, record_of

_SCRIPT: Final = Path(__file__).with_name("deliveries.lua").read_text()


class Outcome(StrEnum):
    """What came of one try."""

    DELIVERED = "delivered"
    """The receiver answered with a status of 200 to 299."""
    REFUSED = "refused"
    """The receiver answered with another status. Redirects are not followed."""
    TIMEOUT = "timeout"
    """There was no answer in time."""
    UNREACHABLE = "unreachable"
    """The name is unknown, or nobody takes the connection, or its certificate is not good."""
    FORBIDDEN = "forbidden"
    """The URL leads to an address that nothing is sent to."""
    DISABLED = "disabled"
    """The webhook was disabled, so nothing was sent."""


class DeliveryState(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up. It can be asked for again."""


class Attempt(Contract):
    """One try."""

    at_ms: Milliseconds
    """When it began, in Unix milliseconds."""
    took_ms: Milliseconds
    """How long it took."""
    outcome: Outcome
    """What came of it."""
    status: Annotated[int | None, Field(examples=[200])] = None
    """The HTTP status of the answer, if there was one."""


class Delivery(Contract):
    """One event for one webhook."""

    id: Annotated[str, Field(examples=["msg_0c5f1b7e2a934d68b1f7c3a9e05d2f46"])]
    """Sent as `webhook-id`: the same in every try, by which a receiver knows what it has got already."""
    type: Annotated[str, Field(examples=["analysis.succeeded"])]
    """Of the event."""
    analysis: Annotated[str | None, Field(examples=["an_4c6a225931052afbc86aa746c02fb74c"])] = None
    """What it is about; null for a test."""
    state: Annotated[DeliveryState, Field(examples=["delivered"])]
    """Where it is."""
    created_ms: Milliseconds
    """When it was first due, in Unix milliseconds."""
    next_ms: Annotated[Milliseconds | None, Field(examples=[None])] = None
    """When it is tried next; null when it is not."""
    attempts: tuple[Attempt, ...] = ()
    """What came of each try so far, the last 20 of them."""


class NewDelivery(Contract):
    """What is to be told to one webhook."""

    id: str
    webhook: str
    type: str
    payload: str


class Claimed(Contract):
    """A delivery that is somebody's to try, for one lease."""

    id: str
    webhook: str
    payload: str
    tries: int
    """1 for the first try."""
    token: str
    """Names this try, and no other."""


class Backlog(Contract):
    """What is left to tell."""

    deliveries: int
    """Pending ones, those that wait for their next try included."""
    announcements: int
    """Ended analyses of which no delivery was made yet."""
    overdue_ms: int
    """For how long the longest has been due."""


class Deliveries:
    """Every call raises QueueUnavailable when Redis has not answered within 2 seconds."""

    def __init__(self, url: str) -> None:
        self._call = ImpatientScript(url, _SCRIPT)

    async def ended(self, *, lease_s: float) -> Job | None:
        """An ended job that is to be announced; to somebody else, when it was not within `lease_s`. None when there is none."""
        fields = await self._call("ended", milliseconds(lease_s))
        return decode(fields) if fields else None

    async def announce(self, job_id: str, deliveries: Sequence[NewDelivery]) -> None:
        """Make the deliveries about an ended job: all or none, and none twice."""
        made = [field for one in deliveries for field in (one.id, one.webhook, one.type, one.payload)]
        await self._call("announce", job_id, *made)

    async def test(self, delivery: NewDelivery) -> None:
        """Make a delivery that is about no job."""
        await self._call("test", delivery.id, delivery.webhook, delivery.type, delivery.payload)

    async def claim(self, token: str, *, lease_s: float, busy: Collection[str] = ()) -> Claimed | None:
        """A delivery that is due, to no webhook that is `busy`. It is due again after `lease_s`, unless it was settled."""
        fields = await self._call("claim", token, milliseconds(lease_s), *busy)
        if not fields:
            return None
        record = record_of(fields)
        return Claimed(id=record["id"], webhook=record["webhook"], payload=record["payload"], tries=int(record["tries"]), token=token)

    async def settle(self, claimed: Claimed, attempt: Attempt, *, next_in_s: float | None) -> bool:
        """What came of a try, and in how long the next one is, if there is one. False when another one has begun meanwhile."""
        if attempt.outcome is Outcome.DELIVERED:
            state = DeliveryState.DELIVERED
        else:
            state = DeliveryState.FAILED if next_in_s is None else DeliveryState.PENDING
        wait_ms = milliseconds(next_in_s or 0)
        return bool(await self._call("settle", claimed.id, claimed.token, state, wait_ms, attempt.model_dump_json(exclude_none=True)))

    async def list(self, webhook_id: str, *, limit: int) -> tuple[Delivery, ...]:
        """The newest deliveries of a webhook, the newest first."""
        return tuple(_delivery(fields) for fields in await self._call("list", webhook_id, limit))

    async def get(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Raises DeliveryNotFound."""
        return _found(await self._call("get", webhook_id, delivery_id))

    async def again(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Try it again now, and if need be by the whole schedule. Raises DeliveryNotFound."""
        return _found(await self._call("again", webhook_id, delivery_id))

    async def forget(self, webhook_id: str) -> None:
        """Drop all deliveries of a webhook."""
        await self._call("forget", webhook_id)

    async def backlog(self) -> Backlog:
        deliveries, announcements, overdue_ms = await self._call("backlog")
        return Backlog(deliveries=deliveries, announcements=announcements, overdue_ms=overdue_ms)

    async def close(self) -> None:
        await self._call.redis.aclose()


def _found(fields: Sequence[str]) -> Delivery:
    if not fields:
        raise DeliveryNotFound
    return _delivery(fields)


def _delivery(fields: Sequence[str]) -> Delivery:
    record = record_of(fields)
    return Delivery(
        id=record["id"],
        type=record["type"],
        analysis=record["job"] or None,
        state=DeliveryState(record["state"]),
        created_ms=int(record["made_ms"]),
        next_ms=int(record["due_ms"]) if "due_ms" in record else None,
        attempts=tuple(json.loads(record["attempts"]) or ()),
    )

"""How often a tenant may ask, and how many videos it may post in a day.

Requests are counted in the memory of the process: in a Redis whose every write is on the disk before it answers, each look at a
running analysis would wait for the disk. Several gateways therefore allow several times as many. Videos are counted in Redis, where
all gateways find them after any restart; a video that is posted goes there anyway.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import time
from typing import Final, Protocol

import redis.asyncio
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from shared.errors import QueueUnavailable, QuotaExceeded
from shared.jobs import Tenant

ANSWERS_WITHIN_S: Final = 2.0
PREFIX: Final = "mien:limits"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a tenant is within one limit."""

    name: str
    quota: int
    window_s: int
    remaining: int
    reset_s: int
    """Seconds until there is the whole quota again."""
    is_exceeded: bool
    """This one was too many."""

    def require(self) -> None:
        """Raises QuotaExceeded, with how long to wait, when this one was too many."""
        if self.is_exceeded:
            detail = f"more than {self.quota} {self.name} in {self.window_s} s"
            raise QuotaExceeded(detail, quota=self.name, retry_after_s=self.reset_s)

    @property
    def policy_field(self) -> str:
        return f'"{self.name}";q={self.quota};w={self.window_s}'

    @property
    def field(self) -> str:
        return f'"{self.name}";r={self.remaining};t={self.reset_s}'


def rate_limit_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """As in draft-ietf-httpapi-ratelimit-headers, from -08 on; none where nothing is counted."""
    if not standings:
        return {}
    return {
        "RateLimit-Policy": ", ".join(standing.policy_field for standing in standings),
        "RateLimit": ", ".join(standing.field for standing in standings),
    }


class Limit(Protocol):
    """One thing that there may be too much of."""

    async def spend(self, tenant: Tenant) -> Standing:
        """Count one more."""
        ...

    async def close(self) -> None: ...


class PerMinute:
    """Requests, counted in memory."""

    def __init__(self, most: int) -> None:
        self._item = RateLimitItemPerMinute(most)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def spend(self, tenant: Tenant) -> Standing:
        return await spend(self._limiter, self._item, tenant, name="requests")

    async def close(self) -> None:
        """Nothing is open."""


class PerDay:
    """Videos, counted in Redis. Raises QueueUnavailable when it has not answered within 2 seconds."""

    def __init__(self, most: int, *, redis_url: str) -> None:
        self._item = RateLimitItemPerDay(most)
        self._pool = redis.asyncio.ConnectionPool.from_url(
            redis_url,
            socket_timeout=ANSWERS_WITHIN_S,
            socket_connect_timeout=1.0,
            retry=Retry(ExponentialBackoff(cap=0.4, base=0.05), 4),  # a Redis that was started again answers at once
        )
        storage = RedisStorage(
            f"async+{redis_url}",
            implementation="redispy",
            wrap_exceptions=True,
            key_prefix=PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self._limiter = FixedWindowRateLimiter(storage)

    async def spend(self, tenant: Tenant) -> Standing:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                return await spend(self._limiter, self._item, tenant, name="videos")
        except (StorageError, TimeoutError) as error:
            raise QueueUnavailable(type(error).__name__) from error

    async def close(self) -> None:
        await self._pool.disconnect()


async def spend(limiter: FixedWindowRateLimiter, item: RateLimitItem, tenant: Tenant, *, name: str) -> Standing:
    allowed = await limiter.hit(item, tenant)
    stats = await limiter.get_window_stats(item, tenant)
    return Standing(
        name=name,
        quota=item.amount,
        window_s=item.get_expiry(),
        remaining=max(0, stats.remaining),
        reset_s=max(1, ceil(stats.reset_time - time())),
        is_exceeded=not allowed,
    )

"""How the queue's script is called: connections that reconnect by themselves, records as Redis hashes, errors of our own.

The script, `queue.lua` or `deliveries.lua`, decides; nothing here knows what a command does.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError  # noqa: A004
from redis.retry import Retry

from shared.errors import QueueUnavailable
from shared.idempotency import Idempotency
from shared.jobs import Job, Options

QUEUE: Final = Path(__file__).with_name("queue.lua").read_text()
_TEXT_FIELDS: Final = frozenset({"id", "tenant", "sha256", "state"})
_LOST_CONNECTION: Final = (ConnectionError, TimeoutError, BusyLoadingError)
_GATEWAY_ANSWERS_WITHIN_S: Final = 2.0
_CONNECTIONS: Final = 16
"""Redis does one thing at a time: with more, requests would wait there instead of here. Callers wait for one, and are not refused."""


class ImpatientScript:
    """Asynchronous. Every call raises QueueUnavailable when Redis has not answered within 2 seconds."""

    def __init__(self, url: str, script: str = QUEUE) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_GATEWAY_ANSWERS_WITHIN_S,
            decode_responses=True,
            socket_timeout=_GATEWAY_ANSWERS_WITHIN_S,
            socket_connect_timeout=1.0,
            retry=AsyncRetry(ExponentialBackoff(cap=0.4, base=0.05), 4),
            retry_on_error=list(_LOST_CONNECTION),
        )
        self.redis = redis.asyncio.Redis.from_pool(pool)
        self._script = self.redis.register_script(script)

    async def __call__(self, command: str, *args: str | int) -> Any:
        with redis_errors():
            async with asyncio.timeout(_GATEWAY_ANSWERS_WITHIN_S):
                return await self._script(args=[command, *args])

    async def ping(self) -> None:
        with redis_errors():
            async with asyncio.timeout(_GATEWAY_ANSWERS_WITHIN_S):
                await self.redis.ping()

    async def settings(self) -> Mapping[str, str]:
        """How Redis is set up."""
        with redis_errors():
            async with asyncio.timeout(_GATEWAY_ANSWERS_WITHIN_S):
                return {str(name): str(value) for name, value in (await self.redis.config_get()).items()}


class PatientScript:
    """Blocking, and safe to share between threads. Every call raises QueueUnavailable when Redis does not answer."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=10.0,
            socket_connect_timeout=3.0,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), 3),
            retry_on_error=list(_LOST_CONNECTION),
        )
        self._script = self.redis.register_script(QUEUE)

    def __call__(self, command: str, *args: str | int) -> Any:
        with redis_errors():
            return self._script(args=[command, *args])


@contextmanager
def redis_errors() -> Iterator[None]:
    """Redis's errors stop here. Their text may name hosts, so it stays in the cause, for logs."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise QueueUnavailable(type(error).__name__) from error


def encode(job: Job, idempotency: Idempotency | None = None) -> list[str]:
    """A job as the flat list of fields and values that a Redis hash takes; what is None has no field."""
    fields = {
        name: value if name in _TEXT_FIELDS else json.dumps(value) for name, value in job.model_dump(mode="json", exclude_none=True).items()
    }
    return [text for field in {**fields, **(dict(idempotency) if idempotency else {})}.items() for text in field]


def decode(fields: Sequence[str]) -> Job:
    """The inverse of `encode`, as far as this version knows what a newer gateway lets clients ask for: enough to show a job."""
    job = _written(fields)
    options = {name: value for name, value in job.get("options", {}).items() if name in Options.model_fields}
    return Job.model_validate({**job, "options": options})


def decode_whole(fields: Sequence[str]) -> Job:
    """The inverse of `encode`, to do a job as it was asked for. Raises ValidationError when this version does not know what that is."""
    return Job.model_validate(_written(fields))


def _written(fields: Sequence[str]) -> dict[str, Any]:
    """Fields that are not the job's are the script's own."""
    record = record_of(fields).items()
    return {name: text if name in _TEXT_FIELDS else json.loads(text) for name, text in record if name in Job.model_fields}


def record_of(fields: Sequence[str]) -> Mapping[str, str]:
    """A record with the script's own fields, all as text."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

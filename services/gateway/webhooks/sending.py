"""One try: a POST, and what came of it. No redirect is followed, no cookie kept, no body read, and no proxy used that was not asked for."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import httpcore
import httpx

from services.gateway.webhooks.egress import Egress, GuardedNetwork, Unresolved
from services.gateway.webhooks.retries import retry_after_s
from shared.deliveries import Outcome
from shared.errors import WebhookUrlForbidden

AGENT: Final = "Mien-Webhooks/1"
MOST_CONNECTIONS: Final = 64
GOOD: Final = range(200, 300)


class Answer(NamedTuple):
    """What came of it."""

    outcome: Outcome
    status: int | None = None
    retry_after_s: float | None = None
    """What the receiver asks for."""


class Sender:
    """Keeps no connection between two tries: each time it is judged anew where it leads."""

    def __init__(self, egress: Egress, *, timeout_s: float) -> None:
        self._egress = egress
        self._timeout_s = timeout_s
        self._pool = pool(egress)

    async def send(self, url: str, headers: Mapping[str, str], content: str) -> Answer:
        """All of it within the time limit."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(self._egress.parse(url), headers, content.encode())
        except WebhookUrlForbidden:
            return Answer(Outcome.FORBIDDEN)
        except (TimeoutError, httpcore.TimeoutException):
            return Answer(Outcome.TIMEOUT)
        except (Unresolved, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, OSError):
            return Answer(Outcome.UNREACHABLE)

    async def close(self) -> None:
        await self._pool.aclose()

    async def _post(self, url: httpx.URL, headers: Mapping[str, str], content: bytes) -> Answer:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = {"Host": url.netloc.decode(), "User-Agent": AGENT, "Content-Type": "application/json", **headers}
        async with self._pool.stream("POST", target, headers=list(sent.items()), content=content) as response:
            asked = next((value.decode("latin-1") for name, value in response.headers if name.lower() == b"retry-after"), None)
        outcome = Outcome.DELIVERED if response.status in GOOD else Outcome.REFUSED
        return Answer(outcome, response.status, retry_after_s(asked, now_s=time.time()))


def pool(egress: Egress) -> httpcore.AsyncConnectionPool:
    trusted = httpx.create_ssl_context()
    if egress.proxy:
        return httpcore.AsyncHTTPProxy(egress.proxy, ssl_context=trusted, max_connections=MOST_CONNECTIONS, max_keepalive_connections=0)
    network = GuardedNetwork(egress)
    return httpcore.AsyncConnectionPool(trusted, network_backend=network, max_connections=MOST_CONNECTIONS, max_keepalive_connections=0)

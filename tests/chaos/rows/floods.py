"""L4: nine hundred connections that say little or nothing, and one client that does nothing wrong."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import httpx
import psutil

from deploy.stack import HOST
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service
from tests.chaos.waiting import seconds_until

FULL: Final = 300
"""Of each kind."""
WATCHED_S: Final = 60.0
CLOSED_WITHIN_S: Final = 30.0
ASKS_EVERY_S: Final = 0.02
ADDRESSES: Final = 100
"""That the flood comes from: of one alone the gateway takes only so many connections, and this is not about that."""
HONEST: Final = "127.0.0.2"
MOST_P99_MS: Final = 200.0
DESCRIPTORS: Final = 5
MANY: Final = 64
SETTLES_WITHIN_S: Final = 30.0
KINDS: Final = {
    "idle": b"",
    "slow header": b"GET /healthz HTTP/1.1\r\nHost: mien\r\nX-Slow: ",
    "slow body": b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\nContent-Length: 10000000\r\n\r\n",
}
MARK: Final = "after 30 s none is open; the honest client's p99 is at most 200 ms and it never gets a 503; descriptors are back within 5"


@dataclass(kw_only=True)
class Honest:
    """What the client met that does nothing wrong."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def p99_ms(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] * 1000


def run(drill: Drill) -> Verdict:
    each = drill.size(FULL)
    with Service(drill.folder, models=drill.common, workers=0, triton=False) as service:
        process = psutil.Process(service.programs.pid("gateway"))
        port = int(service.url.rpartition(":")[2])
        asyncio.run(warm_up(service.url))
        before = process.num_fds()
        honest = Honest()
        lasted = asyncio.run(flood(port, each, honest))
        settled_s = seconds_until(lambda: process.num_fds() <= before + DESCRIPTORS, within_s=SETTLES_WITHIN_S)
        after = process.num_fds()
    still_open = {kind: sum(seconds > CLOSED_WITHIN_S for seconds in times) for kind, times in lasted.items()}
    return Verdict(
        id="L4",
        n=each * len(KINDS),
        passed=sum(still_open.values()) == 0
        and honest.p99_ms() <= MOST_P99_MS
        and set(honest.statuses) == {200}
        and after <= before + DESCRIPTORS,
        value={
            "open_after_30_s": still_open,
            "longest_s": {kind: round(max(times), 1) for kind, times in lasted.items()},
            "honest_p99_ms": round(honest.p99_ms(), 1),
            "honest_statuses": dict(honest.statuses),
            "descriptors": [before, after],
            "settled_s": round(settled_s, 1),
        },
        mark=MARK,
    )


async def warm_up(url: str) -> None:
    """A busy moment, after which the gateway has opened all that it keeps open for itself."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        await asyncio.gather(*(http.get("/v1/analyses") for _ in range(MANY)))
    await asyncio.sleep(1)


async def flood(port: int, each: int, honest: Honest) -> dict[str, list[float]]:
    """How long each connection of each kind stayed open, at most WATCHED_S."""
    asking = asyncio.create_task(ask(port, honest))
    try:
        opened = {
            kind: [asyncio.create_task(dribble(port, start, address=f"127.0.1.{1 + number % ADDRESSES}")) for number in range(each)]
            for kind, start in KINDS.items()
        }
        return {kind: list(await asyncio.gather(*tasks)) for kind, tasks in opened.items()}
    finally:
        asking.cancel()


async def dribble(port: int, start: bytes, *, address: str) -> float:
    """Say how a request begins, and then a byte a second; an idle connection says nothing at all."""
    reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
    began = time.monotonic()
    try:
        writer.write(start)
        while time.monotonic() - began < WATCHED_S:
            if start:
                writer.write(b"x")
                await writer.drain()
            if await is_over(reader):
                break
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return time.monotonic() - began


async def is_over(reader: asyncio.StreamReader) -> bool:
    """Whether the server hangs up within a second. What it says before that does not matter."""
    try:
        async with asyncio.timeout(1):
            while await reader.read(4096):
                pass
    except TimeoutError:
        return False
    return True


async def ask(port: int, honest: Honest) -> None:
    transport = httpx.AsyncHTTPTransport(local_address=HONEST)
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=30, transport=transport) as http:
        while True:
            began = time.monotonic()
            try:
                honest.statuses[(await http.get("/healthz")).status_code] += 1
            except httpx.TransportError:
                honest.statuses[0] += 1
            honest.seconds.append(time.monotonic() - began)
            await asyncio.sleep(ASKS_EVERY_S)

"""L7: two hundred looks a second at how an analysis is doing, while every core decodes."""

import asyncio
import time
from collections import Counter
from typing import Final

import httpx

from tests.chaos.client import Client
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import Service
from tests.chaos.work import busy

PER_SECOND: Final = 200
FULL_S: Final = 60
MOST_P99_MS: Final = 100.0
AT_ONCE: Final = 16
MARK: Final = "p99 is at most 100 ms, and every look is answered with 200"


def run(drill: Drill) -> Verdict:
    n = drill.size(FULL_S) * PER_SECOND
    with (
        Service(drill.folder, models=drill.models()) as service,
        Client(service.url) as client,
        busy(client, drill.clips(1, seconds=10), name="busy") as ids,
    ):
        seconds, statuses = asyncio.run(look(service.url, ids[0], n))
    p99_ms = sorted(seconds)[int(len(seconds) * 0.99)] * 1000
    return Verdict(
        id="L7",
        n=n,
        passed=p99_ms <= MOST_P99_MS and set(statuses) == {200},
        value={
            "p99_ms": round(p99_ms, 1),
            "p50_ms": round(sorted(seconds)[len(seconds) // 2] * 1000, 1),
            "statuses": dict(statuses),
        },
        mark=MARK,
    )


async def look(url: str, job_id: str, n: int) -> tuple[list[float], Counter[int]]:
    """`n` looks at an even pace; how long each took from the moment it was due, and how it was answered."""
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    began = time.monotonic()
    turns = iter(range(n))

    async def ask(http: httpx.AsyncClient) -> None:
        for turn in turns:
            due = began + turn / PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            statuses[(await http.get(f"/v1/analyses/{job_id}")).status_code] += 1
            seconds.append(time.monotonic() - due)

    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as http:
        await asyncio.gather(*(ask(http) for _ in range(AT_ONCE)))
    return seconds, statuses

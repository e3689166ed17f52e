"""A gateway that takes its own pulse: `python -m tests.chaos.heartbeat PORT REDIS_URL DATA BEATS`.

Its event loop is to come round every few milliseconds; each time that it is late is a line of JSON in the file BEATS.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from socket import socket
from typing import Final, TextIO

from services.gateway.app import create_app
from services.gateway.published import Models
from services.gateway.uploads import UploadLimits
from services.web import server
from services.web.guard import Guard
from shared.queue import GatewayQueue
from shared.videos import Videos

BEAT_S: Final = 0.005
LATE_S: Final = 0.002
MOST_BYTES: Final = 80 * 2**20


class Beating(server.Server):
    def __init__(self, config: server.uvicorn.Config, beats: TextIO) -> None:
        super().__init__(config)
        self._beats = beats

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self._pulse = asyncio.create_task(pulse(self._beats))
        await super().startup(sockets)


async def pulse(beats: TextIO) -> None:
    """`at`: by the clock that all processes share. `stall_s`: how late. `busy_s`: what the loop's thread has worked meanwhile, which a
    machine that is busy with others does not lengthen."""
    at, busy_s = time.monotonic(), time.thread_time()
    while True:
        await asyncio.sleep(BEAT_S)
        now, worked_s = time.monotonic(), time.thread_time()
        if now - at - BEAT_S > LATE_S:
            beats.write(json.dumps({"at": now, "stall_s": now - at - BEAT_S, "busy_s": worked_s - busy_s}) + "\n")
        at, busy_s = now, worked_s


def main() -> None:
    port, redis_url, data, out = sys.argv[1:]
    app = create_app(
        queue=GatewayQueue(redis_url),
        videos=Videos(Path(data)),
        models=Models(Path(data) / "models"),
        triton_http="http://127.0.0.1:1",
        limits=UploadLimits(max_bytes=MOST_BYTES),
        guard=Guard(),
    )
    with Path(out).open("w", buffering=1) as beats:
        Beating(server.config(app, host="127.0.0.1", port=int(port)), beats).run()


if __name__ == "__main__":
    main()

"""Clients that keep a server waiting, hundreds at a time, and one that is honest meanwhile."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

import httpx

HEAD: Final = b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\nContent-Length: 1000000\r\n\r\n"
OPENINGS: Final = {"idle": b"", "head": b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\n", "body": HEAD}
"""What each kind sends at once. The last two go on with a byte now and then."""
DRIP_EVERY_S: Final = 0.2
ADDRESSES: Final = tuple(f"127.0.0.{last}" for last in range(2, 6))
"""Of this machine, too: the honest client has one of its own."""


@dataclass(frozen=True, kw_only=True)
class Honest:
    """What the honest client saw."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


@contextmanager
def slow_connections(port: int, *, of_each_kind: int) -> Iterator[list[socket.socket]]:
    """So many that send nothing, so many that never end their headers, so many that never end their body."""
    addresses = cycle(ADDRESSES)
    with ExitStack() as stack:
        opened = []
        for opening in OPENINGS.values():
            for _ in range(of_each_kind):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, (next(addresses), 0)))
                connection.sendall(opening)
                opened.append(connection)
        yield opened


def drip(connections: Sequence[socket.socket], until: threading.Event) -> None:
    """A byte on each that has begun to say something, again and again. For a thread."""
    talking = list(connections[len(connections) // len(OPENINGS) :])
    while not until.wait(DRIP_EVERY_S):
        for connection in list(talking):
            try:
                connection.send(b"x")
            except OSError:  # hung up on
                talking.remove(connection)


def be_honest(url: str, seen: Honest, until: threading.Event) -> None:
    """Ask whether the server is alive, again and again. For a thread."""
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        while not until.wait(0.02):
            began = time.monotonic()
            seen.statuses.append(client.get("/healthz").status_code)
            seen.seconds.append(time.monotonic() - began)


def open_still(connections: Sequence[socket.socket]) -> int:
    """How many of them the server has not hung up on."""
    return sum(map(is_open, connections))


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            """Whatever it was told, such as 408, before the end."""
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

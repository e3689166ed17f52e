"""How long a connection may keep the server waiting, and how many one address may have open.

uvicorn has a limit for the pause between two requests, and none for a request that never comes to an end of its headers: hundreds of
connections that send nothing, or a byte now and then, stay open for good, and its limit of concurrency then turns everybody away.
So here the head of a request has a deadline that no byte moves, whoever does not read an answer is hung up on, and no address may take
all connections. How slowly a body may come is decided where it is read.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, kw_only=True)
class Patience:
    """With connections."""

    head_s: float = 10
    """From the first moment, or the first byte of a further request, until the headers are there."""
    pause_s: int = 75
    """Between two requests: longer than a proxy's own limit, so that it is the proxy that hangs up."""
    unread_s: float = 30
    """For which a client may read nothing of an answer that waits for it."""
    per_address: int = 512
    """Connections of one address, more of which are hung up on at once; 0 behind a proxy, which is one address for everybody."""


PATIENCE: Final = Patience()


class PatientProtocol(H11Protocol):
    """uvicorn's, with deadlines. Made by `patient`."""

    patience: Patience
    open_by_address: Counter[str]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = Deadline(self.loop, self.patience.head_s, self.timeout_keep_alive_handler)
        self._reading = Deadline(self.loop, self.patience.unread_s, transport.abort)
        self._address = self.client[0] if self.client else ""
        self.open_by_address[self._address] += 1
        if 0 < self.patience.per_address < self.open_by_address[self._address]:
            transport.abort()
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head.end()
        self._reading.end()
        self.open_by_address[self._address] -= 1
        if not self.open_by_address[self._address]:
            del self.open_by_address[self._address]

    def _watch_head(self) -> None:
        """The deadline stands while headers are awaited. In the pause between two requests uvicorn's own does, until its first byte."""
        awaited = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if awaited and self.timeout_keep_alive_task is None:
            self._head.begin()
        else:
            self._head.end()


class Deadline:
    """Something that happens when it was not prevented in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, then: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._then = then
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """One that has begun stays as it is: nothing that happens meanwhile moves it."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._then)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient(patience: Patience) -> type[asyncio.Protocol]:
    """The protocol of one server, whose connections are counted together."""
    return type("Patient", (PatientProtocol,), {"patience": patience, "open_by_address": Counter()})

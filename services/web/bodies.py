"""The size of a body that is read whole, such as JSON, and how long it may take to come.

Starlette has a middleware for the size; it answers in plain text, where ours are problems.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODILESS: Final = frozenset({"GET", "HEAD"})
"""No route reads what comes with these. Whoever streams an answer drops it while listening for the client to go away, when it is too late
for another answer."""


@dataclass(frozen=True, kw_only=True)
class WholeBodies:
    """What bodies that are read whole may be like."""

    max_bytes: int
    within_s: float = 10
    """From the moment at which it is asked for until its last byte, whatever comes meanwhile: it is small, and a byte now and then
    would keep its connection for good."""
    under: str = ""
    """Of requests to paths that begin with this. What is streamed elsewhere has rules of its own."""


class BodyLimit:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, bodies: WholeBodies) -> None:
        self._app = app
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS or not scope["path"].startswith(self._bodies.under):
            await self._app(scope, receive, send)
            return
        body = Body(receive, announced=int(Headers(scope=scope).get("content-length", 0)), bodies=self._bodies)
        await self._app(scope, body.receive, send)


class Body:
    """One request's."""

    def __init__(self, receive: Receive, *, announced: int, bodies: WholeBodies) -> None:
        """announced: the Content-Length; h11 lets nothing but a number through."""
        self._receive = receive
        self._announced = announced
        self._bodies = bodies
        self._received = 0
        self._due: float | None = None

    async def receive(self) -> Message:
        if self._announced > self._bodies.max_bytes:
            raise refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        message = await self._receive_in_time()
        self._received += len(message.get("body", b""))
        if self._received > self._bodies.max_bytes:
            raise refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    async def _receive_in_time(self) -> Message:
        if self._due is None:
            self._due = asyncio.get_running_loop().time() + self._bodies.within_s
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
        except TimeoutError:
            raise refusal(HTTPStatus.REQUEST_TIMEOUT) from None
        if not message.get("more_body", False):
            self._due = float("inf")  # what is waited for from now on is that the client goes away
        return message


def refusal(status: HTTPStatus) -> HTTPException:
    """What FastAPI lets through while it reads a body; any other error it would call the body's own."""
    return HTTPException(status)

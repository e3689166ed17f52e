"""Answering before the body has been read, so that the client gets to see the answer (RFC 9112, 9.6).

A server that refuses 2 GiB and hangs up resets the connection, and the client, busy sending, may never read why. So the
connection is announced as closing, the answer is sent whole, and what still arrives is thrown away for a moment before
the connection goes.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S: Final = 2.0
LINGER_BYTES: Final = 64 * 1024 * 1024


class LingeringClose:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not announces_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        unread = True

        async def receive_noting() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)  # a disconnect has no more, either
            return message

        async def send_lingering(message: Message) -> None:
            if not unread:
                await send(message)
            elif message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
                await send(message)
            elif message.get("more_body", False):
                await send(message)
            else:
                await send({**message, "more_body": True})
                await drain(receive)
                await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receive_noting, send_lingering)


def announces_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def drain(receive: Receive) -> None:
    """Throw away what arrives until the body or the connection ends, or it has been long enough."""
    left = LINGER_BYTES
    try:
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return

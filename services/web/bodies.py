"""The size of a body that is read whole, such as JSON.

Starlette has a middleware for this; it answers in plain text, where ours are problems.
"""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, under: str = "") -> None:
        """Of requests to paths that begin with `under`."""
        self._app = app
        self._under = under
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._under):
            await self._app(scope, receive, send)
            return
        announced = int(Headers(scope=scope).get("content-length", 0))  # h11 lets nothing but a number through
        received = 0

        async def receive_counting() -> Message:
            nonlocal received
            if announced > self._max_bytes:
                raise too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise too_large()
            return message

        await self._app(scope, receive_counting, send)


def too_large() -> HTTPException:
    """What FastAPI lets through while it reads a body; any other error it would call the body's own."""
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

"""A body is read from whom a key belongs to, and from nobody else.

FastAPI reads a JSON body before it looks at what the route depends on, so the dependency alone would let strangers fill the memory.
What is streamed, such as a video, is read by its route, long after the dependency.
"""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.errors import Unauthenticated
from services.web.guard import BEARER, Guard
from services.web.lingering import announces_body
from shared.errors import StorageError


class Strangers:
    """ASGI middleware. It says no more than that a key is missing: which role it takes is for the routes to say."""

    def __init__(self, app: ASGIApp, *, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not announces_body(Request(scope).headers):
            await self._app(scope, receive, send)
            return

        async def receive_from_known() -> Message:
            request = Request(scope)
            if not hasattr(request.state, "caller"):
                await self._require_known(request)
            return await receive()

        await self._app(scope, receive_from_known, send)

    async def _require_known(self, request: Request) -> None:
        try:
            await self._guard.identify(await BEARER(request))
        except Unauthenticated:
            # What FastAPI lets through while it reads a body; any other error it would call the body's own.
            raise HTTPException(HTTPStatus.UNAUTHORIZED) from None
        except StorageError:
            return  # the dependency says so in its own words

"""Who asks, and may they: the API key of a request becomes a `Caller`, or the request ends here, before its body is read.

A route, or a whole router, says whom it is for by what it depends on:

    router = APIRouter(prefix="/v1/analyses", dependencies=[Depends(client)])

    async def read(caller: Annotated[Caller, Depends(client)], ...) -> ...:

A service without any key listens to its own machine only, and everybody is the tenant `public` with every role. With keys there is no
such exception for callers on the same machine: behind a proxy everybody would be one.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.web.errors import Forbidden, Unauthenticated, UseNotPermitted
from services.web.keyring import KeyRing
from services.web.limits import Limit
from shared.errors import ApiKeyRequired, StorageError
from shared.jobs import PUBLIC, Tenant
from shared.keys import ApiKey, KeyFolder, Purpose, Role, now_ms

SCHEME: Final = "ApiKey"
BEARER: Final = HTTPBearer(
    scheme_name=SCHEME,
    bearerFormat="mien_<id>_<secret>",
    description="An API key. A server that has none, which is one that listens to its own machine only, asks nobody for it.",
    auto_error=False,
)
Credentials = HTTPAuthorizationCredentials | None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, and what for."""

    tenant: Tenant
    """Sees, changes and waits for its own analyses only."""
    roles: frozenset[Role]
    key_id: str = ""
    """Of the key; may be logged. Empty without one."""
    purpose: Purpose | None = None
    """What the tenant has declared."""
    use_is_permitted: bool = True
    """Whether videos may be analysed for that purpose."""


HOW: Final = (
    "make a key with `python -m services.web.keys create --folder FOLDER`, and set MIEN_API_KEYS to that folder, or listen on 127.0.0.1"
)
ANYBODY: Final = Caller(tenant=PUBLIC, roles=frozenset(Role))
"""Who asks a service without keys."""


class Guard:
    """Stands before one service."""

    def __init__(
        self, keys: KeyFolder | None = None, *, is_local: bool = True, requests: Limit | None = None, videos: Limit | None = None
    ) -> None:
        """Nobody but this machine reaches a service that `is_local`; then, until there is a first key, everybody is ANYBODY, and
        no limit holds.

        requests: of a tenant, to all routes that take a key.
        videos: that a tenant posts.
        """
        self._ring = KeyRing(keys) if keys else None
        self._is_local = is_local
        self._requests = requests
        self._videos = videos

    async def admit(self, request: Request, credentials: Credentials, roles: frozenset[Role]) -> Caller:
        """Raises Unauthenticated; QuotaExceeded; Forbidden unless the key has one of the roles; UseNotPermitted to clients without
        a lawful purpose.
        """
        caller = await self._known(request, credentials)
        if roles.isdisjoint(caller.roles):
            raise Forbidden(roles=sorted(roles))
        if roles == {Role.CLIENT} and not caller.use_is_permitted:
            raise UseNotPermitted(purpose=caller.purpose)
        return caller

    async def admit_video(self, request: Request, caller: Caller) -> None:
        """Raises QuotaExceeded, and QueueUnavailable when nobody can tell."""
        if caller is not ANYBODY and self._videos is not None:
            await spend(request, self._videos, caller)

    async def is_welcome(self, credentials: Credentials) -> bool:
        """Whether a key that was let in is still good: for answers that go on for long. Asking is not a request, so it spends nothing.

        One that cannot be told from a dead one is not.
        """
        try:
            await self.identify(credentials)
        except (Unauthenticated, StorageError):
            return False
        return True

    async def close(self) -> None:
        for limit in (self._requests, self._videos):
            if limit is not None:
                await limit.close()

    async def _known(self, request: Request, credentials: Credentials) -> Caller:
        """Once for each request, however many routers and routes ask."""
        known: Caller | None = getattr(request.state, "caller", None)
        if known is None:
            known = request.state.caller = await self.identify(credentials)
            if known is not ANYBODY and self._requests is not None:
                await spend(request, self._requests, known)
        return known

    async def identify(self, credentials: Credentials) -> Caller:
        """Raises Unauthenticated, and StorageError when nobody can tell."""
        if self._is_local and (self._ring is None or await self._ring.had_none()):
            return ANYBODY
        key = await self._ring.find(credentials.credentials) if self._ring and credentials else None
        if key is None:
            raise Unauthenticated
        return caller_of(key)


async def spend(request: Request, limit: Limit, caller: Caller) -> None:
    """Raises QuotaExceeded. Whatever the answer is, `Access` says in its headers where the tenant stands."""
    standing = await limit.spend(caller.tenant)
    request.state.standings = (*getattr(request.state, "standings", ()), standing)
    standing.require()


def guard_of_host(host: str, folder: Path | None, *, requests: Limit | None = None, videos: Limit | None = None) -> Guard:
    """The guard of a service that is to listen on `host`, with the keys in `folder`.

    Raises ApiKeyRequired when others could reach it and no key opens it, StorageError when there is no such folder.
    """
    keys = KeyFolder(folder) if folder else None
    live = [key for key in keys.all() if key.is_live(now_ms())] if keys else []
    if not is_loopback(host) and not live:
        raise ApiKeyRequired(f"asked to listen on {host}: {HOW}")
    return Guard(keys, is_local=is_loopback(host), requests=requests, videos=videos)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def caller_of(key: ApiKey) -> Caller:
    return Caller(
        tenant=key.tenant, roles=frozenset(key.roles), key_id=key.id, purpose=key.purpose, use_is_permitted=key.use_is_permitted()
    )


def requires(*roles: Role) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has one of these roles."""
    wanted = frozenset(roles)

    async def caller(request: Request, credentials: Annotated[Credentials, Security(BEARER, scopes=[described(wanted)])]) -> Caller:
        guard: Guard = request.app.state.guard
        return await guard.admit(request, credentials, wanted)

    return caller


def described(roles: frozenset[Role]) -> str:
    """In the description of the API, one of whose roles is needed; see `openapi.alternatives`."""
    return "|".join(sorted(roles))


client: Final = requires(Role.CLIENT)
"""For what is about a tenant's own analyses."""
ops: Final = requires(Role.OPS)
"""For what is about the service."""


async def poster(request: Request, caller: Annotated[Caller, Depends(client)]) -> Caller:
    """For what brings a new video: counts it."""
    guard: Guard = request.app.state.guard
    await guard.admit_video(request, caller)
    return caller


publisher: Final = requires(Role.PUBLISHER)
"""For what changes which model judges, and for what leads there."""
reader: Final = requires(Role.OPS, Role.PUBLISHER)
"""For looking at what leads there."""
anybody: Final = requires(*Role)
"""For whoever has a key."""

CHANGING: Final = [Depends(publisher)]
"""The `dependencies` of a route of which only publishers may make use, though others may look at the rest of the router."""

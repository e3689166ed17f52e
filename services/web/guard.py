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

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.web.errors import Forbidden, Unauthenticated, UseNotPermitted
from services.web.keyring import KeyRing
from shared.errors import ApiKeyRequired
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


HOW: Final = (
    "make a key with `python -m services.web.keys create --folder FOLDER`, and set MIEN_API_KEYS to that folder, or listen on 127.0.0.1"
)
ANYBODY: Final = Caller(tenant=PUBLIC, roles=frozenset(Role))
"""Who asks a service without keys."""


class Guard:
    """Stands before one service."""

    def __init__(self, keys: KeyFolder | None = None, *, is_local: bool = True) -> None:
        """Nobody but this machine reaches a service that `is_local`; then, until there is a first key, everybody is ANYBODY."""
        self._ring = KeyRing(keys) if keys else None
        self._is_local = is_local

    async def admit(self, credentials: Credentials, roles: frozenset[Role]) -> Caller:
        """Raises Unauthenticated; Forbidden unless the key has one of the roles; UseNotPermitted to clients without a lawful purpose."""
        if self._is_local and (self._ring is None or await self._ring.had_none()):
            return ANYBODY
        key = await self._ring.find(credentials.credentials) if self._ring and credentials else None
        if key is None:
            raise Unauthenticated
        if roles.isdisjoint(key.roles):
            raise Forbidden(roles=sorted(roles))
        if roles == {Role.CLIENT} and not key.use_is_permitted():
            raise UseNotPermitted(purpose=key.purpose)
        return caller_of(key)


def guard_of_host(host: str, folder: Path | None) -> Guard:
    """The guard of a service that is to listen on `host`, with the keys in `folder`.

    Raises ApiKeyRequired when others could reach it and no key opens it, StorageError when there is no such folder.
    """
    keys = KeyFolder(folder) if folder else None
    live = [key for key in keys.all() if key.is_live(now_ms())] if keys else []
    if not is_loopback(host) and not live:
        raise ApiKeyRequired(f"asked to listen on {host}: {HOW}")
    return Guard(keys, is_local=is_loopback(host))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def caller_of(key: ApiKey) -> Caller:
    return Caller(tenant=key.tenant, roles=frozenset(key.roles), key_id=key.id, purpose=key.purpose)


def requires(*roles: Role) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has one of these roles."""
    wanted = frozenset(roles)

    async def caller(request: Request, credentials: Annotated[Credentials, Security(BEARER, scopes=sorted(wanted))]) -> Caller:
        guard: Guard = request.app.state.guard
        return await guard.admit(credentials, wanted)

    return caller


client: Final = requires(Role.CLIENT)
"""For what is about a tenant's own analyses."""
ops: Final = requires(Role.OPS)
"""For what is about the service."""
publisher: Final = requires(Role.PUBLISHER)
"""For what changes which model judges, and for what leads there."""
reader: Final = requires(Role.OPS, Role.PUBLISHER)
"""For looking at how training is doing."""
anybody: Final = requires(*Role)
"""For whoever has a key."""

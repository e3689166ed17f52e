"""Where nothing is sent to. A webhook's URL is a stranger's: it must not make this service reach what the stranger cannot.

The address is judged where the connection is made, and the connection is made to that address: a name that leads elsewhere the next
moment gains nothing. What the URL looks like is judged as well, so that most mistakes are known when a webhook is made.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import httpcore
import httpx

from shared.errors import WebhookUrlForbidden

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

LONGEST_URL: Final = 2048
MOST_ADDRESSES: Final = 4
"""Of one name, that are tried."""


class Unresolved(Exception):
    """Nobody knows the name."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name. Raises Unresolved."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unresolved(host) from error
    return [str(where[0]) for *_, where in found]


class Egress:
    """What may be reached."""

    def __init__(
        self,
        *,
        allow_http: bool = False,
        networks: Iterable[Network] = (),
        proxy: str | None = None,
        resolve: Resolve = system_resolve,
    ) -> None:
        """
        networks: are reached although they are not part of the public internet.
        proxy: everything goes through it. It resolves the names, so it is there that they must be judged.
        """
        self._schemes = {"https", "http"} if allow_http else {"https"}
        self._networks = tuple(networks)
        self._resolve = resolve
        self.proxy = proxy

    def parse(self, url: str) -> httpx.URL:
        """Raises WebhookUrlForbidden when it can be seen from the URL itself that nothing is sent there."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise WebhookUrlForbidden("not a URL") from error
        if len(url) > LONGEST_URL:
            raise WebhookUrlForbidden(f"longer than {LONGEST_URL} characters")
        if parsed.scheme not in self._schemes:
            raise WebhookUrlForbidden(f"begins with none of {', '.join(f'{scheme}://' for scheme in sorted(self._schemes))}")
        if parsed.userinfo:
            raise WebhookUrlForbidden("has a user name or a password in it")
        if not parsed.host:
            raise WebhookUrlForbidden("names no host")
        if literal := literal_address(parsed.host):
            self._require(literal)
        return parsed

    async def check(self, url: str) -> None:
        """Raises WebhookUrlForbidden when nothing would be sent there now."""
        parsed = self.parse(url)
        if self.proxy is None:
            try:
                await self.addresses(parsed.host, parsed.port or 443)
            except Unresolved:
                raise WebhookUrlForbidden("names a host that nobody knows") from None

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Where the name leads. Raises Unresolved, and WebhookUrlForbidden when a single one of them is not to be reached."""
        found = list(dict.fromkeys(await self._resolve(host, port)))
        for text in found:
            self._require(ipaddress.ip_address(text.partition("%")[0]))
        if not found:
            raise Unresolved(host)
        return found[:MOST_ADDRESSES]

    def _require(self, address: Address) -> None:
        if not is_public(address) and not any(address in network for network in self._networks):
            raise WebhookUrlForbidden("leads to an address that is not part of the public internet")


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore: to addresses that were judged, and to no other."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        *others, last = await self._egress.addresses(host, port)
        for address in others:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._network.connect_tcp(last, port, timeout, local_address, socket_options)


def is_public(address: Address) -> bool:
    """Whether anybody on the internet can reach it, and means the same by it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address.sixtofour or address.teredo or address.is_site_local:
            return False  # a tunnel leads to an address that is not seen here
    return address.is_global and not address.is_multicast and not address.is_reserved


def literal_address(host: str) -> Address | None:
    """The address that a host is, in any of the ways in which C libraries read one: 127.1, 0x7f000001, 017700000001."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None

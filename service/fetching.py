"""Images by URL, for callers who may send one: from allowed hosts only, and from no address that is not public.

What a name resolves to is checked address by address, and the connection goes to the very address that was checked: asking the name
again would let its owner answer differently the second time. A redirect is a new URL, with all that is asked of one.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore2

from service.errors import ImageTooLarge, ImageUrlFailed, ImageUrlForbidden

ANY_HOST = "*"
NOT_FROM_HERE = "Images are not fetched from this host: send the picture itself, as base64 or as a multipart file."
"""Whether a host is not listed, is not public or is not there at all: a stranger shall not learn what names mean in here."""

LONGEST_URL = 2048
MOST_REDIRECTS = 3
MOST_CONNECTIONS = 32
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PORTS = {"https": 443, "http": 80}
HEADERS = [("Accept", "image/*"), ("Accept-Encoding", "identity"), ("User-Agent", "paliserve")]

HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
"""As urlsplit gives it. Other characters mean one thing to one reader of URLs and another to the next."""

NEVER = frozenset(map(ip_address, ("168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")))
"""Where clouds keep their secrets, besides the addresses of the link: Azure's, Oracle's, Amazon's and Google's."""

NOWHERE = tuple(map(ip_network, ("192.88.99.0/24", "fec0::/10", "3fff::/20")))
"""Networks that Python takes for public ones: relays of 6to4, sites by an old rule, documentation."""

# Addresses that carry an IPv4 address, which is the one that is reached: RFC 6052, section 2.1.
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What is fetched at all. No ``hosts``: nothing.

    ``hosts``: names such as ``images.example.org``, ``*.example.org`` (any name below it), ``*`` (any), each also with ``:port``; without
    one the scheme's own port is meant. ``http`` allows it beside https. ``private`` allows addresses of private networks and of this
    machine; those of the link, where clouds keep their secrets, are never allowed. ``seconds``: for each image, redirects and all.
    """

    hosts: tuple[str, ...] = ()
    http: bool = False
    private: bool = False
    seconds: float = 10.0
    max_bytes: int = 20_000_000


class ImageFetcher:
    """Fetches images within its limits."""

    def __init__(self, limits: FetchLimits, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: whom to trust; None trusts whom the system trusts."""
        self._limits = limits
        self._tls = tls
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def fetch(self, url: str) -> bytes:
        """The bytes at ``url``. Errors: ImageUrlForbidden, ImageUrlFailed, ImageTooLarge."""
        if not self._limits.hosts:
            raise ImageUrlForbidden("Images are not fetched from URLs here: send the picture itself, as base64 or as a multipart file.")
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._follow(url)
        except (TimeoutError, httpcore2.TimeoutException):
            raise ImageUrlFailed(f"The image's URL did not give it within {self._limits.seconds:g} s.") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol):
            raise ImageUrlFailed("The image's URL cannot be reached, or does not speak HTTP as it should.") from None

    async def close(self) -> None:
        """Close what is open."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _follow(self, url: str) -> bytes:
        target = self._checked(url)
        for _ in range(MOST_REDIRECTS + 1):
            async with self._connections().stream("GET", target.geturl(), headers=[("Host", target.netloc), *HEADERS]) as response:
                if response.status not in REDIRECTS:
                    return await self._read(response)
                location = _header(response, b"location")
            target = self._checked(location, target.geturl())
        raise ImageUrlFailed(f"The image's URL leads on more than {MOST_REDIRECTS} times: send the last one.")

    def _checked(self, url: str, base: str = "") -> SplitResult:
        """The URL, which may be relative to ``base``, without its fragment, if it may be asked for."""
        if len(url) > LONGEST_URL or not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
            raise ImageUrlFailed(f"The image's URL is none: at most {LONGEST_URL} printable ASCII characters, without blanks, are needed.")
        try:
            parts = urlsplit(urljoin(base, url))
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise ImageUrlFailed("The image's URL is none: https://host/path is needed.") from None
        schemes = ("https", "http") if self._limits.http else ("https",)
        if parts.scheme not in schemes or not HOST.fullmatch(host) or "@" in parts.netloc:
            raise ImageUrlForbidden(
                f"The image's URL must be {' or '.join(f'{each}://host/path' for each in schemes)}, without credentials."
            )
        own_port = PORTS[parts.scheme]
        if not _is_listed(host, port or own_port, own_port, self._limits.hosts):
            raise ImageUrlForbidden(NOT_FROM_HERE)
        named = f"[{host}]" if ":" in host else host
        return SplitResult(parts.scheme, named if port in (None, own_port) else f"{named}:{port}", parts.path or "/", parts.query, "")

    async def _read(self, response: httpcore2.Response) -> bytes:
        if response.status != 200:
            raise ImageUrlFailed(f"The image's URL answers with status {response.status}.")
        if _header(response, b"content-encoding").lower() not in ("", "identity"):
            raise ImageUrlFailed("The image's URL answers with compressed bytes, which were not asked for.")
        too_large = ImageTooLarge(f"The image has more than {self._limits.max_bytes} bytes, which is the most that is taken.")
        stated = _header(response, b"content-length")
        if stated.isdecimal() and int(stated) > self._limits.max_bytes:
            raise too_large
        read = bytearray()
        async for chunk in response.aiter_stream():
            read += chunk
            if len(read) > self._limits.max_bytes:
                raise too_large
        return bytes(read)

    def _connections(self) -> httpcore2.AsyncConnectionPool:
        # Made on the event loop that uses it. Nothing is kept open: a connection checked once would be trusted for as long as it lives.
        if self._pool is None:
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=0,
                network_backend=CheckedNetwork(httpcore2.AnyIOBackend(), self._limits.private),
            )
        return self._pool


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to names, all of whose addresses are allowed, by these addresses."""

    def __init__(self, network: httpcore2.AsyncNetworkBackend, private: bool) -> None:
        self._network = network
        self._private = private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the interface has it)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See ``AsyncNetworkBackend``. Errors: ImageUrlForbidden, and those of the network."""
        addresses = await _resolved(host, port)
        if not all(is_allowed(ip_address(each), self._private) for each in addresses):
            raise ImageUrlForbidden(NOT_FROM_HERE)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore2.ConnectError:
                continue
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """See ``AsyncNetworkBackend``."""
        await self._network.sleep(seconds)


def is_allowed(address: Address, private: bool) -> bool:
    """Whether a connection may go there: to a public address or, where ``private``, also to one of a private network or this machine."""
    reached = _reached(address)
    if reached.is_multicast or reached.is_link_local or reached.is_unspecified or reached in NEVER:
        return False
    if any(reached in network for network in NOWHERE):
        return False
    if reached.is_loopback:
        return private
    return not reached.is_reserved and (reached.is_global or (private and reached.is_private))


def _reached(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


async def _resolved(host: str, port: int) -> Sequence[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ImageUrlForbidden(NOT_FROM_HERE) from None
    # An address with a scope (fe80::1%eth0) belongs to a link.
    return [str(address[0]).partition("%")[0] for *_, address in found]


def _is_listed(host: str, port: int, own_port: int, hosts: Sequence[str]) -> bool:
    for each in hosts:
        name, _, listed_port = each.lower().rpartition(":") if each.rpartition(":")[2].isdecimal() else (each.lower(), "", "")
        if port == (int(listed_port) if listed_port else own_port) and (
            name in (ANY_HOST, host) or (name.startswith("*.") and host.endswith(name[1:]))
        ):
            return True
    return False


def _header(response: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for each, value in response.headers if each.lower() == name), "")

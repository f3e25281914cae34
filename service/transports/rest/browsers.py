"""What pages of other sites may do through the browser of somebody who can reach this server: nothing, unless they are listed."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import PaliServeError, PermissionDenied
from service.transports.rest import problems
from service.transports.rest.guard import PROBES
from service.transports.rest.refusals import MisdirectedRequest
from service.transports.rest.visits import refuse
from service.transports.visits import Visit, VisitBook

ANY = "*"
NO_SNIFFING = {"x-content-type-options": "nosniff"}
"""What callers wrote stands in answers: no browser is to take one for a page because of it."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine. Where only it can ask, another one is that of a page whose name was pointed here: DNS rebinding."""

_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\\\[\]]+)(?::(\d{1,5}))?")


class Hosts:
    """Names that a server is asked under, with a port or for all ports, ``*.example.org`` for all below it; None: any name."""

    def __init__(self, names: Sequence[str] | None) -> None:
        self._known = None if names is None or ANY in names else [_parts(each) for each in names]

    def include(self, host: str) -> bool:
        """Whether the ``Host`` of a request is one of them."""
        if self._known is None:
            return True
        name, port = _parts(host)
        return any(_fits(name, known) and wanted in ("", port) for known, wanted in self._known) and name != ""


class Browsers:
    """ASGI middleware: refuses names that are not this server's, and what the pages of others send without being asked.

    ``origins``: sites such as ``https://example.org`` whose pages may call; ``*``: all. A form of another site reaches a server without its
    consent, because the browser asks for leave only before what no form could send.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None, origins: Sequence[str], book: VisitBook) -> None:
        self._app = app
        self._book = book
        self._hosts = Hosts(hosts)
        self._origins = frozenset(each.lower() for each in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_plainly(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(NO_SNIFFING)
            await send(message)

        error = self._refusal(scope, Headers(scope=scope))
        if error is None:
            await self._app(scope, receive, send_plainly)
        else:
            await refuse(error, scope, receive, send_plainly)
            self._book.turn_away(Visit(code=problems.TABLE[type(error)].code))

    def _refusal(self, scope: Scope, headers: Headers) -> PaliServeError | None:
        # The kubelet asks its probes under the pod's address.
        if scope["path"] not in PROBES and not self._hosts.include(headers.get("host", "")):
            return MisdirectedRequest("This server is not asked under this name: its allowed_hosts say under which.")
        if scope["method"] not in ("GET", "HEAD") and self._is_foreign(headers):
            return PermissionDenied("Pages of this origin may not call: its operator lists those that may as cors_origins.")
        return None

    def _is_foreign(self, headers: Headers) -> bool:
        origin, site = headers.get("origin", "").lower(), headers.get("sec-fetch-site", "").lower()
        if ANY in self._origins or origin in self._origins:
            return False
        if origin:
            # A proxy may have changed the host; what the browser says of the site no page can.
            return site != "same-origin" and origin.partition("://")[2] != headers.get("host", "").lower()
        return site in ("cross-site", "same-site")


def _parts(netloc: str) -> tuple[str, str]:
    """Name and port; no name where it is none."""
    found = _NETLOC.fullmatch(netloc.strip().lower())
    return (found[1], found[2] or "") if found else ("", "")


def _fits(name: str, known: str) -> bool:
    return name.endswith(known[1:]) if known.startswith("*.") else name == known

"""A full service refuses plain requests where their bytes arrive: without a parser, a task or an application.

What is refused here would be refused by the door, in the same words; here it takes a fraction of the processor, and under a storm it is the
refusing that is to leave something for the answers.
"""

import re
import time
from dataclasses import dataclass

from service.access.gate import Caller
from service.errors import Overloaded, PaliServeError
from service.tasks.callers import caller
from service.transports.ports import Service
from service.transports.rest.browsers import NO_SNIFFING, Hosts
from service.transports.rest.door import task_of
from service.transports.rest.framing import LARGEST_HEAD, MOST_LINES
from service.transports.rest.guard import Access
from service.transports.rest.middleware import MOST_SKIPPED
from service.transports.rest.protocol import Refusal
from service.transports.rest.visits import refusal
from service.transports.visits import Visit, VisitBook

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
_START = re.compile(rb"POST (/[A-Za-z0-9/_.-]*) HTTP/1\.1")
_LENGTH = re.compile(rb"[0-9]{1,9}")

ODD = frozenset(
    {b"transfer-encoding", b"expect", b"upgrade", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"te", b"trailer", b"http2-settings"}
)
"""Headers that make a request anything but plain."""


@dataclass(frozen=True, slots=True)
class PlainHead:
    """The head of a request about which no two readers can disagree. ``size``: its bytes; ``length``: those of the body behind it."""

    path: str
    headers: dict[bytes, bytes]
    size: int
    length: int


class Turnstile:
    """Refuses whom ``service`` has no room for, where it sees at a glance who asks for what. All others it leaves to the application.

    ``port``: where tasks are asked for; None where there is only one.
    """

    def __init__(self, service: Service, access: Access, book: VisitBook, port: int | None = None) -> None:
        self._service = service
        self._gate = access.gate
        self._hosts = Hosts(access.allowed_hosts)
        self._book = book
        self._port = port

    def refusal(self, data: bytes, port: int | None) -> Refusal | None:
        """Of the request that begins with these bytes and came to that port; None: it is to be read."""
        if not self._service.crowded() or (self._port is not None and port != self._port):
            return None
        began = time.monotonic()
        head = plain_head(data)
        task = task_of("POST", head.path) if head else None
        if head is None or task is None or not self._hosts.include(head.headers[b"host"].decode()):
            return None
        if head.size + head.length < len(data):
            # Who sends many at once is not to keep the event loop with them.
            return None
        who, full = self._overloaded(head.headers.get(b"authorization", b"").decode())
        if full is None:
            return None
        response = refusal(full, head.path, head.headers.get(b"x-request-id", b"").decode())
        response.headers.update(NO_SNIFFING)
        self._book.turn_away(Visit(task, "overloaded", seconds=time.monotonic() - began, caller=who.name))
        return Refusal(response, head.size + head.length)

    def _overloaded(self, authorization: str) -> tuple[Caller, Overloaded | None]:
        """Who asks, and that there is no room; None: there is, or it is for others to say what is wrong, and to count it."""
        who = Caller()
        try:
            # Who stops, or cannot work.
            self._service.ready()
            who = self._gate.identify(authorization)
            token = caller.set(who.name)
            try:
                if not self._service.has_room():
                    # As the guard does, before the room counts it: who asks too often is told only that.
                    with self._gate.admit(who), self._service.room():
                        pass
            finally:
                caller.reset(token)
        except Overloaded as error:
            return who, error
        except PaliServeError:
            pass
        return who, None


def plain_head(data: bytes) -> PlainHead | None:
    """The head at the beginning of ``data``; None where it is not whole, or anything about it is not plain."""
    end = data.find(b"\r\n\r\n", 0, LARGEST_HEAD)
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    start = _START.fullmatch(first)
    if start is None or len(lines) >= MOST_LINES:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        headers[found[1].lower()] = found[2] or b""
    length = _LENGTH.fullmatch(headers.get(b"content-length", b""))
    plain = length is not None and b"host" in headers and headers.keys().isdisjoint(ODD) and len(headers) == len(lines)
    if not plain or length is None or int(length[0]) > MOST_SKIPPED:
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    return PlainHead(start[1].decode(), headers, end + 4, int(length[0]))

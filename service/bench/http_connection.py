"""One keep-alive connection over HTTP/1.1, and the server that it leads to."""

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.bench.http_framing import HEAD_END, last_event, parse_head

BROKEN = -1
"""Stands for the status of a request whose connection failed."""


class Connection:
    """Opened when first used, and anew after the server closed it."""

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._address = (host, port)
        self._tls = tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, raw: bytes, hear: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        """Send a request; returns status and body. ``hear`` gets each chunk as it comes. Errors: OSError, EOFError, ValueError."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection(*self._address, ssl=self._tls)
        reader, writer = self._streams
        writer.write(raw)
        try:
            head = parse_head(await reader.readuntil(HEAD_END))
        except asyncio.LimitOverrunError as error:
            raise ValueError(f"the reply's head does not end: {error}") from None
        body = await _chunks(reader, hear) if head.length is None else await reader.readexactly(head.length)
        if not head.keeps_open:
            self.close()
        return head.status, body

    def close(self) -> None:
        """Drop the connection, and with it a request that is not answered yet."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(frozen=True, slots=True)
class HttpServer:
    """Where connections lead to."""

    port: int
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    def connect(self) -> Connection:
        """One that is not open yet."""
        return Connection(self.port, self.host, self.tls)

    def read(self, status: int, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status in the end, and the fields of a reply: a JSON body's, or those of a stream's last event."""
        if not body.startswith((b"event:", b":")):
            return status, _fields(body)
        name, data = last_event(body)
        fields = _fields(data)
        # What goes wrong after the first event comes as an event, in a reply whose status was good.
        return (status if name == "result" else int(fields.get("status", BROKEN))), fields

    async def close(self) -> None:
        """Nothing is open but connections, which are closed by whoever has them."""


async def _chunks(reader: asyncio.StreamReader, hear: Callable[[bytes], None] | None) -> bytes:
    pieces = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        piece = (await reader.readexactly(size + 2))[:-2]
        if hear:
            hear(piece)
        pieces.append(piece)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(pieces)


def _fields(body: bytes | str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}

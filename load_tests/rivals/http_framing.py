"""HTTP/1.1 as the load generator speaks it: requests made ready beforehand, replies read by their Content-Length."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """What is needed of a reply's head."""

    status: int
    length: int
    keeps_open: bool


def post(path: str, fields: Mapping[str, Any]) -> bytes:
    """A whole POST request with a JSON body."""
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


def get(path: str) -> bytes:
    """A whole GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii")


def parse_head(raw: bytes) -> Head:
    """Read a reply's head. Errors: ValueError where it has no Content-Length: chunked replies are not read."""
    lines = raw.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    if "content-length" not in fields:
        raise ValueError("the reply has no Content-Length")
    return Head(int(lines[0].split(" ", 2)[1]), int(fields["content-length"]), fields.get("connection", "").lower() != "close")


class Connection:
    """One keep-alive connection, opened when first used and anew after the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Send a request; returns status and body. Errors: OSError, IncompleteReadError, ValueError."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(raw)
        head = parse_head(await reader.readuntil(HEAD_END))
        body = await reader.readexactly(head.length)
        if not head.keeps_open:
            self.close()
        return head.status, body

    def close(self) -> None:
        """Drop the connection, and with it a request that is not answered yet."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

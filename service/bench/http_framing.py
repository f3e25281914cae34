"""HTTP/1.1 as the load generator speaks it: requests made ready beforehand, replies by their Content-Length or in chunks."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEAD_END = b"\r\n\r\n"
FIRST_LINE = re.compile(r"HTTP/1\.[01] (\d{3})(?: |$)")


@dataclass(frozen=True, slots=True)
class Head:
    """What is needed of a reply's head. ``length`` in bytes; None: in chunks."""

    status: int
    length: int | None
    keeps_open: bool


def post(path: str, fields: Mapping[str, Any]) -> bytes:
    """A whole POST request with a JSON body."""
    return request("POST", path, {"Content-Type": "application/json"}, json.dumps(fields).encode())


def get(path: str) -> bytes:
    """A whole GET request."""
    return request("GET", path, {})


def request(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """A whole request. ``headers`` may name another ``Host`` than 127.0.0.1."""
    length = {} if body is None else {"Content-Length": str(len(body))}
    lines = [f"{name}: {value}\r\n" for name, value in ({"Host": "127.0.0.1"} | dict(headers) | length).items()]
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("ascii") + (body or b"")


def parse_head(raw: bytes) -> Head:
    """Read a reply's head. Errors: ValueError where it is none, or tells no length."""
    lines = raw.decode("latin-1").split("\r\n")
    first = FIRST_LINE.match(lines[0])
    if first is None:
        raise ValueError("the reply is not HTTP")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    chunked = fields.get("transfer-encoding", "").lower() == "chunked"
    if "content-length" not in fields and not chunked:
        raise ValueError("the reply has no Content-Length")
    length = None if chunked else int(fields["content-length"])
    return Head(int(first[1]), length, fields.get("connection", "").lower() != "close")


def last_event(body: bytes) -> tuple[str, str]:
    """Name and data of the last of a body of server-sent events; comments do not count. Empty where there is none."""
    for raw in reversed(body.decode(errors="replace").split("\n\n")):
        fields = dict(line.partition(": ")[::2] for line in raw.splitlines() if not line.startswith(":"))
        if "data" in fields:
            return fields.get("event", "message"), fields["data"]
    return "", ""

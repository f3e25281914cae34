import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from service.bench.http_connection import Connection
from service.bench.http_framing import parse_head, post

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_a_request_is_whole() -> None:
    head, _, body = post("/v1/answer", {"question": "wie groß?"}).partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/answer HTTP/1.1"
    assert f"Content-Length: {len(body)}".encode() in head.splitlines()
    assert json.loads(body) == {"question": "wie groß?"}


def test_a_head_is_read_whatever_the_case_of_its_names() -> None:
    head = parse_head(b"HTTP/1.1 503 Service Unavailable\r\nCONTENT-length: 12\r\nConnection: Close\r\n\r\n")
    assert (head.status, head.length, head.keeps_open) == (503, 12, False)


def test_a_chunked_reply_is_refused() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize("closes", [False, True])
def test_a_connection_is_kept_or_opened_anew(closes: bool) -> None:
    opened = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                closing = b"Connection: close\r\n" if closes else b""
                writer.write(b"HTTP/1.1 200 OK\r\n" + closing + b"Content-Length: 2\r\n\r\nhi")
                if closes:
                    break
        writer.close()

    assert asyncio.run(_ask_twice(handle)) == [(200, b"hi"), (200, b"hi")]
    assert opened == (2 if closes else 1)


async def _ask_twice(handle: Handler) -> list[tuple[int, bytes]]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    connection = Connection(server.sockets[0].getsockname()[1])
    replies = [await connection.ask(post("/", {})) for _ in range(2)]
    connection.close()
    server.close()
    # Lets both ends see that they are closed.
    await asyncio.sleep(0.05)
    return replies

import asyncio

import pytest

from service.bench.http_connection import BROKEN, Connection, HttpServer
from service.bench.http_framing import post
from tests.bench.small_server import answer, chunked, small_server

RESULT = b'event: result\ndata: {"usage":{"completion_tokens":3}}\n\n'


@pytest.mark.parametrize("closes", [False, True])
def test_a_connection_is_kept_or_opened_anew(closes: bool) -> None:
    seen = set()

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        seen.add(writer.get_extra_info("peername"))
        writer.write(answer(b"hi", more="Connection: close\r\n" if closes else ""))
        if closes:
            writer.close()

    async def ask_twice() -> list[tuple[int, bytes]]:
        async with small_server(handle) as port:
            connection = Connection(port)
            replies = [await connection.ask(post("/", {})) for _ in range(2)]
            connection.close()
            return replies

    assert asyncio.run(ask_twice()) == [(200, b"hi"), (200, b"hi")]
    assert len(seen) == (2 if closes else 1)


def test_chunks_are_heard_as_they_come_and_the_connection_is_good_for_more() -> None:
    pieces = [b"event: token\ndata: {}\n\n", RESULT]
    heard: list[bytes] = []

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(*pieces))

    async def ask_twice() -> list[tuple[int, bytes]]:
        async with small_server(handle) as port:
            connection = HttpServer(port).connect()
            replies = [await connection.ask(post("/", {}), heard.append), await connection.ask(post("/", {}))]
            connection.close()
            return replies

    assert asyncio.run(ask_twice()) == [(200, b"".join(pieces))] * 2
    assert heard == pieces


def test_a_head_without_an_end_is_no_reply() -> None:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(1_000_000))

    async def ask() -> None:
        async with small_server(handle) as port:
            connection = Connection(port)
            try:
                await connection.ask(post("/", {}))
            finally:
                connection.close()

    with pytest.raises(ValueError, match="does not end"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"text": "a"}', (200, {"text": "a"})),
        (503, b'{"code": "overloaded"}', (503, {"code": "overloaded"})),
        (502, b"<html>", (502, {})),
        (200, b"[1]", (200, {})),
        (200, b": still at work\n\n" + RESULT, (200, {"usage": {"completion_tokens": 3}})),
        (200, b'event: token\ndata: {}\n\nevent: error\ndata: {"status": 504}\n\n', (504, {"status": 504})),
        (200, b"event: token\ndata: {}\n\n", (BROKEN, {})),
    ],
)
def test_a_reply_s_status_in_the_end(status: int, body: bytes, expected: tuple[int, dict[str, object]]) -> None:
    assert HttpServer(0).read(status, body) == expected

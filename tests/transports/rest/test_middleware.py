"""An answer that is given before its request was read whole."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import uvicorn

from service.transports.rest import middleware
from service.transports.rest.middleware import Lingering, Parting
from tests.transports.rest.service_fake import MAX_IMAGE_BYTES, Rest

Sent = list[Mapping[str, Any]]
START = {"type": "http.response.start", "status": 413, "headers": []}
END = {"type": "http.response.body", "body": b"no", "more_body": False}


def exchange(chunks: list[bytes], headers: dict[str, str], reads: int = 0, stalls: bool = False) -> tuple[Sent, int]:
    """An application that reads ``reads`` chunks and answers: what was sent, and how many chunks were taken in all."""
    sent: Sent = []
    taken = 0

    async def application(_: Any, receive: Any, send: Any) -> None:
        for _ in range(reads):
            await receive()
        await send(dict(START, headers=[]))
        await send(END)

    async def receive() -> Mapping[str, Any]:
        nonlocal taken
        if taken == len(chunks):
            assert stalls, "asked for more than there is"
            await asyncio.Event().wait()
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": stalls or taken < len(chunks)}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(asyncio.wait_for(Lingering(application)(scope, receive, send), 20))  # type: ignore[arg-type]
    return sent, taken


@pytest.mark.parametrize(("chunks", "headers", "reads"), [([], {}, 0), ([], {"content-length": "0"}, 0), ([b"a", b"b"], {}, 2)])
def test_a_request_that_was_read_is_answered_as_it_is(chunks: list[bytes], headers: dict[str, str], reads: int) -> None:
    assert exchange(chunks, headers, reads) == ([START, END], reads)


@pytest.mark.parametrize("headers", [{"content-length": "3000000"}, {"transfer-encoding": "chunked"}])
@pytest.mark.parametrize("reads", [0, 1, 2])
def test_the_rest_is_read_away_behind_the_answer(headers: dict[str, str], reads: int) -> None:
    sent, taken = exchange([b"a", b"b", b"c"], headers, reads)
    assert taken == 3
    assert sent[0]["headers"] == [(b"connection", b"close")]
    assert [(each["body"], each["more_body"]) for each in sent[1:]] == [(b"no", True), (b"", False)]


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MOST_DRAINED", 1000)
    sent, taken = exchange([b"x" * 100] * 50, {"content-length": "5000000"})
    assert (taken, sent[-1]["more_body"]) == (10, False)
    monkeypatch.setattr(middleware, "LONGEST_DRAIN", 0.01)
    sent, taken = exchange([b"x"], {"content-length": "5000000"}, stalls=True)
    assert (taken, sent[-1]["more_body"]) == (1, False)


def over_a_connection(rest: Rest, ask: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]) -> bytes:
    """What ``ask`` returns of one connection to the application, served as it really is."""

    async def asked() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(rest.application, http="h11", ws="none", log_config=None, access_log=False))
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            answer = await ask(reader, writer)
            writer.close()
            server.should_exit = True
            await serving
            return answer

    return asyncio.run(asyncio.wait_for(asked(), 20))


@pytest.mark.parametrize("framing", ["content-length: 5000000", "transfer-encoding: chunked"])
def test_a_client_that_sends_all_before_it_reads_gets_its_answer(rest: Rest, framing: str) -> None:
    body = b" " * 5_000_000
    assert len(body) > 4 * (MAX_IMAGE_BYTES + 1_000_000)
    if "chunked" in framing:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = f"POST /v1/read HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(head.encode() + body)
        await writer.drain()
        return await reader.read()

    answer = over_a_connection(rest, ask)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer


@pytest.mark.parametrize(("leaving", "headers"), [(True, [(b"connection", b"close")]), (False, [])])
def test_each_answer_of_a_process_that_stops_ends_its_connection(leaving: bool, headers: list[tuple[bytes, bytes]]) -> None:
    sent: Sent = []

    async def application(_: Any, receive: Any, send: Any) -> None:
        await send(dict(START, headers=[]))
        await send(END)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Parting(application, lambda: leaving)({"type": "http", "headers": []}, None, send))  # type: ignore[arg-type]
    assert sent == [dict(START, headers=headers), END]


def test_a_small_body_behind_an_answer_is_skipped_and_the_connection_goes_on(rest: Rest) -> None:
    rest.service.full = True
    body = b'{"image": "AAAA"}'
    head = b"POST /v1/read HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        answer = b""
        for _ in range(3):
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].split()[0])
            answer += await reader.readexactly(length)
            # Only after the answer has come.
            writer.write(body)
        return answer

    answer = over_a_connection(rest, ask)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" not in answer.lower()


@pytest.mark.parametrize("line", [b"POST /v1/read HTTP/1.1\r\nconnection: close\r\n", b"POST /v1/read HTTP/1.0\r\n"])
def test_a_small_body_is_read_away_where_the_connection_ends(rest: Rest, line: bytes) -> None:
    rest.service.full = True

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(line + b"host: x\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n" + b" " * 900_000)
        return await reader.read()

    assert over_a_connection(rest, ask).startswith(b"HTTP/1.1 503 ")

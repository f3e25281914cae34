"""Bytes that are no request, or could be read as two: the table of what a raw socket may say."""

import asyncio
import re

import h11
import pytest

from service.transports.rest.framing import LARGEST_HEAD, MOST_CHUNKS, MOST_LINES, Framing
from tests.transports.rest.served import Served, limited, problem_in, with_server
from tests.transports.rest.service_fake import Rest

POST = b"POST /v1/read HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"

NO_REQUESTS = {
    "two lengths": (POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
    "a list of lengths that differ": (POST + b"content-length: 3, 4\r\n\r\nabc", 400),
    "a negative length": (POST + b"content-length: -3\r\n\r\nabc", 400),
    "a signed length": (POST + b"content-length: +3\r\n\r\nabc", 400),
    "a hexadecimal length": (POST + b"content-length: 0x3\r\n\r\nabc", 400),
    "a length that is no digit but looks like one": (POST + b"content-length: \xb2\r\n\r\nabc", 400),
    "a length and chunks": (POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunks and a length": (POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunks of HTTP/1.0": (b"POST /v1/read HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400),
    "chunks within another coding": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n", 501),
    "another coding within chunks": (POST + b"transfer-encoding: chunked, identity\r\n\r\n", 501),
    "chunks twice": (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "chunks by another name": (POST + b"transfer-encoding: xchunked\r\n\r\n", 501),
    "a space before the colon": (POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "lines that end with LF alone": (b"GET /livez HTTP/1.1\nhost: x\n\n", 400),
    "one line that ends with LF alone": (b"GET /livez HTTP/1.1\r\nhost: x\na: b\r\n\r\n", 400),
    "a header over two lines": (b"GET /livez HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
    "CR in a header": (b"GET /livez HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n", 400),
    "NUL in a header": (b"GET /livez HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n", 400),
    "a header without a colon": (b"GET /livez HTTP/1.1\r\nhost: x\r\nabc\r\n\r\n", 400),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /livez HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a version that there will be": (b"GET /livez HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    "a version that there never was": (b"GET /livez HTTP/1.2\r\nhost: x\r\n\r\n", 505),
    "two spaces": (b"GET  /livez HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a space in the path": (b"GET /li vez HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a path that is not ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "an empty line first": (b"\r\nGET /livez HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a negative chunk": (CHUNKED + b"-1\r\na\r\n0\r\n\r\n" + SMUGGLED, 400),
    "a chunk longer than it says": (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n" + SMUGGLED, 400),
    "a chunk of 2**84 bytes": (CHUNKED + b"fffffffffffffffffffff\r\na", 400),
    "a chunk of 0x10 bytes": (CHUNKED + b"0x10\r\na", 400),
    "too many headers": (b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * MOST_LINES + b"\r\n", 431),
    "too long a header": (b"GET /livez HTTP/1.1\r\nhost: x\r\na: " + b"b" * LARGEST_HEAD + b"\r\n\r\n", 431),
    "too many trailers": (CHUNKED + b"1\r\na\r\n0\r\n" + b"a: b\r\n" * (MOST_LINES + 1) + b"\r\n" + SMUGGLED, 400),
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_threat_25_what_is_no_request_is_answered_once_and_nothing_behind_it_is_read(rest: Rest, name: str) -> None:
    data, status = NO_REQUESTS[name]

    async def ask(served: Served) -> bytes:
        return await served.ask(data)

    answer = with_server(rest.application, rest.metrics, ask)
    assert len(re.findall(rb"HTTP/1\.1 \d\d\d", answer)) == 1, answer
    assert b"connection: close" in answer.lower()
    told, document = problem_in(answer)
    assert told == document["status"]
    assert told in (status, 400), answer
    assert told == status or b"chunk" in data
    assert not rest.fake.calls


def test_threat_25_a_length_that_is_too_short_leaves_nothing_that_is_taken_for_a_request(rest: Rest) -> None:
    async def ask(served: Served) -> bytes:
        return await served.ask(POST + b"content-length: 2\r\n\r\n{}garbage that follows" + SMUGGLED)

    answers = with_server(rest.application, rest.metrics, ask)
    assert re.findall(rb"HTTP/1\.1 (\d\d\d)", answers) == [b"422", b"400"]


def test_requests_behind_one_another_are_answered_in_order(rest: Rest) -> None:
    async def ask(served: Served) -> list[int]:
        client = await served.connect()
        await client.say(SMUGGLED * 3 + SMUGGLED.replace(b"livez", b"nowhere"))
        return [(await client.answer())[0] for _ in range(4)]

    assert with_server(rest.application, rest.metrics, ask) == [200, 200, 200, 404]


def events(data: bytes, piece: int | None = None) -> list[object]:
    """What is made of these bytes, sent in pieces."""
    framing = Framing()
    found: list[object] = []
    for start in range(0, len(data), piece or len(data)):
        framing.receive_data(data[start : start + (piece or len(data))])
        while (event := framing.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            found.append(event)
    return found


@pytest.mark.parametrize("piece", [1, 2, 7, None])
def test_a_request_is_the_same_in_whatever_pieces_it_comes(piece: int | None) -> None:
    data = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\na: b\r\n\r\n"
    request, *rest_of_it = events(data, piece)
    assert isinstance(request, h11.Request)
    assert b"".join(bytes(each.data) for each in rest_of_it if isinstance(each, h11.Data)) == b"abcdefg"
    assert isinstance(rest_of_it[-1], h11.EndOfMessage)


def test_threat_21_and_23_small_pieces_are_refused_before_most_of_them_are_looked_at() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    framing = Framing()
    framing.receive_data(head + b"1\r\na\r\n" * 1_000_000)
    # The head, then the chunks.
    for _ in range(1 + MOST_CHUNKS + 1):
        framing.next_event()
    with pytest.raises(h11.RemoteProtocolError, match="small chunks"):
        framing.next_event()
    for data in (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 15_000 + b"\r\n", head + b"0\r\n" + b"a:\r\n" * 15_000 + b"\r\n"):
        with pytest.raises(h11.RemoteProtocolError, match="headers are taken"):
            events(data)


def test_a_body_in_chunks_of_an_ordinary_size_is_taken() -> None:
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert len(events(head + chunk * 20_000 + b"0\r\n\r\n")) == 20_002


@pytest.mark.parametrize("data", [b"a" * 1000, b"a: " + b"b" * 1000, b"a: b\r\n" * 100], ids=["line", "value", "many"])
def test_threat_21_headers_without_an_end_are_cut_off(rest: Rest, data: bytes) -> None:
    async def ask(served: Served) -> tuple[int, bytes]:
        client = await served.connect()
        client.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
        sent = 0
        answer = asyncio.ensure_future(client.all())
        while not answer.done() and sent < 300_000_000:
            client.writer.write(data * 64)
            sent += len(data) * 64
            try:
                await client.writer.drain()
            except ConnectionError:
                break
        return sent, await answer

    sent, answer = with_server(rest.application, rest.metrics, ask, limited())
    # What sockets and buffers hold is sent before the end is heard of.
    assert sent < 50_000_000
    assert not answer or problem_in(answer)[0] == 431

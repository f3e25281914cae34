import json

import pytest

from service.bench.http_framing import get, last_event, parse_head, post, request


def test_a_request_is_whole() -> None:
    head, _, body = post("/v1/answer", {"question": "wie groß?"}).partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/answer HTTP/1.1"
    assert f"Content-Length: {len(body)}".encode() in head.splitlines()
    assert json.loads(body) == {"question": "wie groß?"}


def test_its_host_is_named_once() -> None:
    assert get("/livez").count(b"Host:") == 1
    assert b"\r\nHost: example.org:8000\r\n" in request("GET", "/", {"Host": "example.org:8000"})
    assert b"Content-Length: 0\r\n" in request("POST", "/", {}, b"")


def test_a_head_is_read_whatever_the_case_of_its_names() -> None:
    head = parse_head(b"HTTP/1.1 503 Service Unavailable\r\nCONTENT-length: 12\r\nConnection: Close\r\n\r\n")
    assert (head.status, head.length, head.keeps_open) == (503, 12, False)


def test_a_head_tells_a_length_or_chunks() -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").length is None
    with pytest.raises(ValueError, match="Content-Length"):
        parse_head(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"220 mail 200 ready\r\n\r\n"])
def test_what_is_no_head_is_told(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not HTTP"):
        parse_head(raw)


def test_the_last_event_is_no_comment() -> None:
    body = b'event: token\ndata: {"text":"a"}\n\n: still at work\n\nevent: result\ndata: {"text":"ab"}\n\n: bye\n\n'
    assert last_event(body) == ("result", '{"text":"ab"}')
    assert last_event(b"data: bare\n\n") == ("message", "bare")
    assert last_event(b": nothing\n\n") == ("", "")

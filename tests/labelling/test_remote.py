"""Against what may stand at a URL: answers that no server of ours gives, byte by byte."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import (
    DeadlineExceeded,
    GenerationFailed,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    OperatorError,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
)
from service.labelling import remote
from service.labelling.labelled import FoundObject, Labelled
from service.labelling.prompt import parse_prompt
from service.labelling.remote import PAUSE, RemoteLabeller

MODELS = {"object": "list", "data": [{"id": "one", "source": "a/b", "dtype": "float32"}, {"id": "two", "source": "c", "dtype": "bfloat16"}]}
FOUND = {
    "image": {"width": 4, "height": 3},
    "segments": [
        {"label": "a", "box": {"x_min": 0, "y_min": 1, "x_max": 2, "y_max": 3}, "score": 0.5, "mask": {"size": [3, 4], "counts": "x"}},
        {"label": "b", "box": {"x_min": 0, "y_min": 1, "x_max": 2, "y_max": 3}, "score": 0.25, "mask": None},
    ],
}


def answer(status: int, body: object, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(data)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def problem(status: int, code: str, *headers: str, **more: object) -> bytes:
    return answer(status, {"detail": f"It is {code}.", "code": code, **more}, *headers)


def asked(told: bytes, work: Callable[[RemoteLabeller], Any], model: str | None = None, key: str | None = None) -> tuple[Any, bytes]:
    """What ``work`` comes to where a server says ``told`` to everything, and the last request."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        requests.append(head + await reader.readexactly(length))
        writer.write(told)
        writer.close()

    async def run() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            labeller = RemoteLabeller(f"http://127.0.0.1:{port}/below/", key, model, parse_prompt("segment a ; b"), 2)
            return await work(labeller)

    return asyncio.run(run()), requests[-1]


async def label(labeller: RemoteLabeller) -> Labelled:
    async with labeller.opened():
        return await labeller.label(b"picture")


def test_the_request() -> None:
    found, request = asked(answer(200, FOUND), label, "two", "secret")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /below/v1/segment HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Authorization: Bearer secret\r\n" in head
    sent = json.loads(body)
    assert (sent["image"], sent["objects"], sent["model"], sent["strict"]) == ("cGljdHVyZQ==", ["a", "b"], "two", True)
    assert found == Labelled(4, 3, (FoundObject("a", (0, 1, 2, 3), 0.5, "x"), FoundObject("b", (0, 1, 2, 3), 0.25, None)))


@pytest.mark.parametrize(("model", "found"), [(None, ("one", "a/b", "float32")), ("two", ("two", "c", "bfloat16"))])
def test_the_model_is_asked_for_by_its_name(model: str | None, found: tuple[str, ...]) -> None:
    told, request = asked(answer(200, MODELS), RemoteLabeller.identity, model)
    assert told == dict(zip(("model", "source", "dtype"), found, strict=True))
    assert request.startswith(b"GET /below/v1/models ")
    assert b"authorization" not in request.lower()


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (problem(422, "invalid_image"), InvalidImage),
        (problem(413, "image_too_large"), ImageTooLarge),
        (problem(413, "request_too_large"), RequestTooLarge),
        (problem(500, "internal"), GenerationFailed),
        (problem(504, "deadline_exceeded"), DeadlineExceeded),
        (problem(408, "request_timeout"), DeadlineExceeded),
        (problem(401, "unauthenticated"), Unauthenticated),
        (problem(404, "model_not_found"), ModelNotFound),
    ],
)
def test_errors_are_the_servers_own(told: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"It is \w+\."):
        asked(told, label)


@pytest.mark.parametrize(
    ("told", "error", "wait"),
    [
        (problem(429, "rate_limited", "Retry-After: 7"), RateLimited, 7),
        (problem(503, "overloaded", "retry-after: 3"), Overloaded, 3),
        (problem(503, "model_not_ready"), ModelNotReady, PAUSE),
        (answer(429, b"slow down", "Retry-After: Sat, 28 Nov 2026 02:00:00 GMT"), ModelNotReady, PAUSE),
        (answer(502, b"<html>"), ModelNotReady, PAUSE),
        (answer(503, b"", "Retry-After: 1"), ModelNotReady, 1),
        (b"", ModelNotReady, PAUSE),
        (b"SSH-2.0-OpenSSH\r\n", ModelNotReady, PAUSE),
        (answer(200, FOUND)[:-9], ModelNotReady, PAUSE),
    ],
)
def test_what_passes_says_when_to_come_back(told: bytes, error: type[Overloaded], wait: float) -> None:
    with pytest.raises(error) as raised:
        asked(told, label)
    assert raised.value.retry_after == wait


@pytest.mark.parametrize(
    ("told", "error"),
    [(answer(504, b"<html>"), DeadlineExceeded), (answer(413, b"<html>"), RequestTooLarge), (answer(500, b"{"), GenerationFailed)],
)
def test_what_a_proxy_says_in_its_own_words(told: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match="answers with status"):
        asked(told, label)


def test_fields_that_are_wrong_are_told() -> None:
    with pytest.raises(InvalidRequest) as raised:
        asked(problem(422, "invalid_request", errors=[{"field": "objects.0", "problem": "too long"}]), label)
    (field,) = raised.value.fields
    assert (field.field, field.problem) == ("objects.0", "too long")


@pytest.mark.parametrize(
    "told",
    [
        answer(200, b"<html>"),
        answer(200, []),
        answer(200, {}),
        answer(200, {"image": 1}),
        answer(301, b"", "Location: /"),
        answer(404, b""),
    ],
)
@pytest.mark.parametrize("work", [label, RemoteLabeller.identity])
def test_others_than_paliserve_are_told_apart(told: bytes, work: Callable[[RemoteLabeller], Any]) -> None:
    with pytest.raises(OperatorError, match="is the URL right"):
        asked(told, work)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SOON", 0.1)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def run() -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            try:
                await RemoteLabeller(url, None, None, parse_prompt("detect a"), 1).identity()
            finally:
                await ended.wait()

    with pytest.raises(OperatorError, match="cannot be reached: ReadTimeout"):
        asyncio.run(run())


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "file:///etc/passwd", "http://[::1", "http://host:99999"])
def test_a_url_is_needed(url: str) -> None:
    with pytest.raises(OperatorError, match="no address"):
        RemoteLabeller(url, None, None, parse_prompt("detect a"), 1)

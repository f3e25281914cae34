"""What requests hold of the process' memory: counted while it comes in, and until the request ends."""

import asyncio
import base64
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.transports.budget import Budget
from service.transports.rest.application import create_application
from service.transports.rest.bodies import MOST_PIECES
from tests.transports.inference_body import binary_body
from tests.transports.rest.service_fake import IMAGE, IMAGE_TEXT, MAX_IMAGE_BYTES, Rest, problem

PICTURE = bytes(MAX_IMAGE_BYTES)
TEXT = base64.b64encode(PICTURE).decode()
FORM = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + PICTURE + b"\r\n--edge--\r\n"
PARTS = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": TEXT}}]
BINARY, JSON_LENGTH = binary_body([PICTURE], [b"x"])
KINDS: dict[str, tuple[str, dict[str, str], bytes, int]] = {
    "JSON": ("/v1/read", {"content-type": "application/json"}, json.dumps({"image": TEXT}).encode(), len(PICTURE)),
    "a form": ("/v1/read", {"content-type": "multipart/form-data; boundary=edge"}, FORM, len(PICTURE)),
    "chat": (
        "/v1/chat/completions",
        {"content-type": "application/json"},
        json.dumps({"messages": [{"role": "user", "content": PARTS}]}).encode(),
        len(PICTURE),
    ),
    "inference": ("/v2/models/fake-224/infer", {"inference-header-content-length": str(JSON_LENGTH)}, BINARY, len(PICTURE) + 1),
    "inference, compressed": (
        "/v2/models/fake-224/infer",
        {"inference-header-content-length": str(JSON_LENGTH), "content-encoding": "gzip"},
        gzip.compress(BINARY),
        len(PICTURE) + 1,
    ),
    "an event stream": (
        "/v1/read",
        {"content-type": "application/json"},
        json.dumps({"image": TEXT, "stream": True}).encode(),
        len(PICTURE),
    ),
}
"""For each kind of body: where, headers, bytes, and what is held of it while the task works."""


async def ask(rest: Rest, path: str, headers: dict[str, str], chunks: list[bytes], after: Callable[[], Awaitable[object]]) -> int:
    """POST by hand; ``after`` all chunks the client leaves. The status, or 0."""
    pending, status = list(chunks), 0

    async def receive() -> dict[str, Any]:
        if pending:
            return {"type": "http.request", "body": pending.pop(0), "more_body": bool(pending)}
        await after()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = status or message.get("status", 0)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await asyncio.wait_for(rest.application(scope, receive, send), 20)
    return status


@pytest.mark.parametrize("kind", KINDS)
def test_threat_11_a_request_holds_its_picture_until_it_ends(rest: Rest, kind: str) -> None:
    path, headers, body, kept = KINDS[kind]
    rest.fake.hold = True
    held: list[int] = []

    async def entered() -> None:
        await rest.fake.entered.wait()
        held.append(rest.budget.held)

    asyncio.run(ask(rest, path, headers, [body], entered))
    assert held == [kept]
    assert rest.budget.held == 0
    assert rest.fake.cancelled


def test_threat_11_a_batch_holds_its_pictures_and_their_text(rest: Rest) -> None:
    rest.fake.hold = True
    body = json.dumps({"image": TEXT, "requests": [{"task": "read"}] * 3}).encode()
    held: list[int] = []

    async def entered() -> None:
        await rest.fake.called(3)
        held.append(rest.budget.held)

    asyncio.run(ask(rest, "/v1/batch", {"content-type": "application/json"}, [body], entered))
    assert held == [len(body) + len(PICTURE)]
    assert rest.budget.held == 0


def limited(rest: Rest, most: int) -> Budget:
    budget = Budget(most, lambda: rest.metrics.request_refused("memory_full"))
    rest.application = create_application(rest.service, rest.metrics, MAX_IMAGE_BYTES, budget=budget)
    return budget


@pytest.mark.parametrize("kind", KINDS)
def test_threat_11_without_room_a_body_is_refused_unread(rest: Rest, kind: str) -> None:
    path, headers, body, _ = KINDS[kind]
    budget = limited(rest, 100_000)
    with budget.hold() as other:
        other.take(100_000)
        response = rest.call("POST", path, content=body, headers=headers)
        document = problem(response, 503, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        assert "memory" in document["detail"]
        assert 'paliserve_requests_refused_total{reason="memory_full"} 1.0' in rest.get("/metrics").text
        assert budget.held == 100_000
    assert rest.call("POST", path, content=body, headers=headers).status_code == 200
    assert budget.held == 0


def test_threat_11_chunks_are_refused_where_they_no_longer_fit(rest: Rest) -> None:
    budget = limited(rest, 5000)
    taken = 0

    async def never() -> None:
        raise AssertionError

    async def once() -> int:
        return await ask(rest, "/v1/read", {"content-type": "application/json"}, [b" " * 1000] * 100, never)

    assert asyncio.run(once()) == 503
    assert budget.held == taken == 0


def test_threat_23_announcing_much_keeps_nobody_out(rest: Rest) -> None:
    budget = limited(rest, 10_000)

    async def once() -> int:
        silent = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await silent.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None: ...

        scope = {
            "type": "http", "method": "POST", "path": "/v1/read", "raw_path": b"/v1/read", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"9000")],
        }  # fmt: skip
        liars = [asyncio.ensure_future(rest.application(scope, receive, send)) for _ in range(100)]
        await asyncio.sleep(0)
        body = json.dumps({"image": IMAGE_TEXT}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        status = await ask(rest, "/v1/read", headers, [body], asyncio.Event().wait)
        silent.set()
        await asyncio.gather(*liars)
        return status

    assert asyncio.run(once()) == 200
    assert budget.held == 0


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=edge"])
def test_threat_23_a_body_in_too_many_pieces_is_refused(rest: Rest, kind: str) -> None:
    taken = 0

    async def counted() -> int:
        nonlocal taken

        async def never() -> None:
            raise AssertionError

        start = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' if "form" in kind else b"{"
        return await ask(rest, "/v1/read", {"content-type": kind}, [start] + [b" "] * 100_000, never)

    assert asyncio.run(counted()) == 400
    assert MOST_PIECES < 100_000
    assert rest.budget.held == taken == 0


def test_an_image_by_url_is_held(rest: Rest) -> None:
    rest.service.at_url, rest.fake.hold = IMAGE, True
    held: list[int] = []

    async def entered() -> None:
        await rest.fake.entered.wait()
        held.append(rest.budget.held)

    body = json.dumps({"image": "https://images.example.org/x.png"}).encode()
    asyncio.run(ask(rest, "/v1/read", {"content-type": "application/json"}, [body], entered))
    assert held == [len(IMAGE)]
    assert rest.budget.held == 0

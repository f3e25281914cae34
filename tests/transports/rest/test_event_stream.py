"""Tasks as server-sent events: what is sent, when it begins, how it ends."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from service.errors import DeadlineExceeded, InvalidImage, Overloaded
from service.tasks.results import Box, Detection
from service.tasks.streaming import DetectionEvent, SegmentEvent, TokenEvent
from service.transports.rest import event_stream, routes
from tests.transports.rest.service_fake import DETECTION, IMAGE, IMAGE_TEXT, OWN_FIELDS, SEGMENT, Rest, fields_of, problem, result

FOUND = {"label": "cat", "box": {"x_min": 1.0, "y_min": 2.0, "x_max": 30.5, "y_max": 40.0}, "score": 0.75}
TOKEN = TokenEvent("<loc", 0)


def events_of(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event; every one stands in two lines."""
    events = []
    for block in text.split("\n\n")[:-1]:
        if not block.startswith(":"):
            name, data = block.split("\n")
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def drive(rest: Rest, leaves_when: Callable[[], Awaitable[object]] | None = None, task: str = "detect") -> list[Mapping[str, Any]]:
    """A stream by hand: what was sent. After the body the client leaves once ``leaves_when`` is done."""
    sent: list[Mapping[str, Any]] = []
    body = json.dumps({"image": IMAGE_TEXT, "stream": True} | OWN_FIELDS[task]).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Mapping[str, Any]:
        if messages:
            return messages.pop()
        await (leaves_when() if leaves_when else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": f"/v1/{task}", "raw_path": b"/", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    await asyncio.wait_for(rest.application(scope, receive, send), 20)  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize("task", sorted(OWN_FIELDS))
def test_every_task_streams_and_ends_with_its_whole_response(rest: Rest, task: str, form: bool) -> None:
    rest.fake.events = [TokenEvent(" some", 0), TokenEvent(" text ", 2)]
    if form:
        own = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in OWN_FIELDS[task].items()}
        response, plain = rest.form(task, own | {"stream": "true"}), rest.form(task, own)
    else:
        response, plain = rest.json(task, {"stream": True}), rest.json(task)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    assert "content-length" not in response.headers
    *tokens, last = events_of(response.text)
    assert tokens == [("token", {"text": " some", "index": 0}), ("token", {"text": " text ", "index": 2})]
    assert last == ("result", plain.json() | {"id": response.headers["x-request-id"]})
    assert rest.fake.calls[0][:2] == (task, IMAGE)
    assert rest.fake.calls[0][2].listener is not None
    assert rest.fake.calls[1][2].listener is None


def test_objects_come_as_they_are_complete(rest: Rest) -> None:
    rest.fake.events = [TOKEN, DetectionEvent(DETECTION, 0), TokenEvent("x\n\ny\r", 1), SegmentEvent(SEGMENT, 3)]
    events = events_of(rest.json("generate", {"stream": True}).text)
    assert events[:-1] == [
        ("token", {"text": "<loc", "index": 0}),
        ("detection", FOUND | {"index": 0}),
        ("token", {"text": "x\n\ny\r", "index": 1}),
        ("segment", FOUND | {"mask": {"format": "rle", "size": [48, 64], "counts": "abc"}, "index": 3}),
    ]


def test_an_error_before_the_first_event_has_its_own_status(rest: Rest) -> None:
    rest.fake.error = InvalidImage("Not an image.")
    problem(rest.json("read", {"stream": True}), 422, "invalid_image")
    rest.fake.error = Overloaded("Busy.", 5)
    response = rest.json("read", {"stream": True})
    problem(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    rest.fake.error = RuntimeError("the secret")
    response = rest.json("read", {"stream": True})
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert fields_of(problem(rest.json("read", {"stream": True, "seed": "x"}), 422, "invalid_request")) == ["seed"]
    assert all('code="ok"' not in line for line in rest.counted())


def test_a_later_error_is_the_last_event(rest: Rest) -> None:
    rest.fake.events = [TOKEN]
    rest.fake.error = DeadlineExceeded("Too late.")
    response = rest.json("detect", {"stream": True})
    assert response.status_code == 200
    (_, (name, document)) = events_of(response.text)
    assert name == "error"
    assert (document["status"], document["code"], document["detail"]) == (504, "deadline_exceeded", "Too late.")
    assert document["request_id"] == response.headers["x-request-id"]
    assert 'code="deadline_exceeded",model="_other",task="detect"' in rest.counted()[0]
    rest.fake.error = Overloaded("Busy.", 100)
    assert 80 <= events_of(rest.json("detect", {"stream": True}).text)[-1][1]["retry_after"] <= 120


def test_threat_59_what_nobody_foresaw_is_told_without_its_words(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    rest.fake.events = [TOKEN]
    rest.fake.error = RuntimeError("the secret")
    text = rest.json("detect", {"stream": True}).text
    assert events_of(text)[-1][1]["code"] == "internal"
    assert "secret" not in text
    assert any(record.exc_info for record in caplog.records)
    rest.fake.error = None
    rest.fake.results["detect"] = result("detect", detections=(Detection("cat", Box(1, 2, 3, 4), 1.5),))
    assert events_of(rest.json("detect", {"stream": True}).text)[-1][1]["code"] == "internal"


def test_a_client_that_leaves_ends_its_task(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rest.fake.events, rest.fake.hold = [TOKEN], True
    sent = asyncio.run(drive(rest, rest.fake.entered.wait))
    assert rest.fake.cancelled
    assert not any(message.get("more_body") is False for message in sent)
    assert any(" cancelled " in record.getMessage() for record in caplog.records)
    assert 'code="cancelled"' in rest.counted()[0]


def test_silence_is_filled_with_comments(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT", 0.001)
    rest.fake.hold = True
    comments = asyncio.Event()

    async def once() -> list[Mapping[str, Any]]:
        sent: list[Mapping[str, Any]] = []
        application = rest.application

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            async def noted(message: Mapping[str, Any]) -> None:
                sent.append(message)
                if len(sent) == 4:
                    comments.set()
                await send(message)

            await application(scope, receive, noted)

        rest.application = counting  # type: ignore[assignment]
        await drive(rest, comments.wait)
        return sent

    sent = asyncio.run(once())
    assert sent[0]["status"] == 200
    assert {message["body"] for message in sent[1:4]} == {b": still at work\n\n"}
    assert rest.fake.cancelled


def test_threat_22_who_does_not_read_is_left(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "LONGEST_SEND", 0.001)
    rest.fake.events, rest.fake.hold = [TOKEN], True

    async def once() -> None:
        application = rest.application

        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            async def never(message: Mapping[str, Any]) -> None:
                await asyncio.Event().wait()

            await application(scope, receive, never)

        rest.application = stuck  # type: ignore[assignment]
        await drive(rest)

    asyncio.run(once())
    assert rest.fake.cancelled
    assert 'code="cancelled"' in rest.counted()[0]


def test_a_stream_is_counted_when_it_ends(rest: Rest) -> None:
    rest.fake.events = [TOKEN]
    rest.json("detect", {"stream": True})
    assert rest.counted() == ['paliserve_requests_total{code="ok",model="fake-224",task="detect",transport="rest"} 1.0']
    assert 'paliserve_completion_tokens_total{model="fake-224"} 3.0' in rest.get("/metrics").text

"""One visit: its id, its log line, its metrics, and what happens when the client goes away."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service.errors import Overloaded
from service.observability.logs import request_id
from service.transports.visits import logger
from tests.transports.rest.service_fake import IMAGE_TEXT, OWN_FIELDS, Rest, problem

Headers = list[tuple[bytes, bytes]]
JSON: Headers = [(b"content-type", b"application/json")]
BODY = f'{{"image": "{IMAGE_TEXT}"}}'.encode()


async def drive(
    rest: Rest, path: str = "/v1/read", headers: Headers = JSON, leaves_when: Callable[[], Any] | None = None, method: str = "POST"
) -> list[Mapping[str, Any]]:
    """One request by hand: what was sent. After the body the client leaves once ``leaves_when`` is done."""
    sent: list[Mapping[str, Any]] = []
    messages = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive() -> Mapping[str, Any]:
        if messages:
            return messages.pop()
        await (leaves_when() if leaves_when else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode("utf-8", "replace"), "query_string": b"", "root_path": "",
        "headers": headers,
    }  # fmt: skip
    await asyncio.wait_for(rest.application(scope, receive, send), 20)  # type: ignore[arg-type]
    return sent


def header(sent: list[Mapping[str, Any]], name: bytes) -> list[bytes]:
    return [value for key, value in sent[0]["headers"] if key == name]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == logger.name]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "service.transports")


@pytest.mark.parametrize("identity", [b"a", b"A-1_b.c", b"x" * 64, b"123e4567-e89b-12d3-a456-426614174000"])
def test_threat_32_a_sane_id_is_kept(rest: Rest, identity: bytes) -> None:
    sent = asyncio.run(drive(rest, headers=[*JSON, (b"x-request-id", identity)]))
    assert sent[0]["status"] == 200
    assert header(sent, b"x-request-id") == [identity]
    assert b'"id":"' + identity + b'"' in sent[1]["body"]


@pytest.mark.parametrize(
    "identity",
    [b"", b"x" * 65, b"a b", b"a\r\nset-cookie: b", b"a\n", "é".encode(), "é".encode("latin-1"), b'"', b"<script>", b"a\x00", b"\xd9\xa3"],
)
def test_threat_32_another_id_is_replaced(rest: Rest, identity: bytes) -> None:
    ids = [header(asyncio.run(drive(rest, headers=[*JSON, (b"x-request-id", identity)])), b"x-request-id") for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(len(each) == 1 and len(each[0]) == 32 and each[0].isalnum() for each in ids)


def test_ids_of_concurrent_requests_stay_apart(rest: Rest) -> None:
    async def both() -> list[list[Mapping[str, Any]]]:
        return await asyncio.gather(*(drive(rest, headers=[*JSON, (b"x-request-id", b"%d" % number)]) for number in range(20)))

    for number, sent in enumerate(asyncio.run(both())):
        assert f'"id":"{number}"'.encode() in sent[1]["body"]
    assert request_id.get() == ""


def test_one_line_per_request(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/v1/read", "/a-strangers-path", "/v1/models/a-strangers-name", "/v1/caption"):
        caplog.clear()
        asyncio.run(drive(rest, path, method="GET" if "models" in path else "POST"))
        (line,) = lines(caplog)
        assert "stranger" not in line
        assert line.endswith(" ms")
    caplog.clear()
    rest.fake.error = Overloaded("Busy.", 1)
    asyncio.run(drive(rest))
    assert lines(caplog)[0].startswith("POST /v1/read 503 overloaded ")
    caplog.clear()
    asyncio.run(drive(rest, method="A\nB"))
    assert lines(caplog)[0].startswith("(other) /v1/read 405 http_405 ")


def test_levels(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    rest.get("/livez")
    rest.get("/metrics")
    rest.get("/v1/models")
    rest.fake.error = RuntimeError("why")
    rest.json("read")
    records = [record for record in caplog.records if record.name.startswith("service.transports.")]
    assert [record.levelname for record in records] == ["DEBUG", "DEBUG", "INFO", "ERROR", "ERROR"]
    assert records[3].exc_info
    assert "why" not in records[4].getMessage()


def test_the_line_carries_the_trace(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    asyncio.run(drive(rest, headers=[*JSON, (b"traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode())]))
    assert lines(caplog)[0].endswith(f" ms trace {trace}")


@pytest.mark.parametrize(
    "trace", [b"", b"00-xyz", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\nforged", b"00-" + b"A" * 32 + b"-" + b"b" * 16 + b"-01"]
)
def test_another_trace_is_left_out(rest: Rest, caplog: pytest.LogCaptureFixture, trace: bytes) -> None:
    asyncio.run(drive(rest, headers=[*JSON, (b"traceparent", trace)]))
    assert lines(caplog)[0].endswith(" ms")


def test_a_client_that_leaves_cancels_its_task(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    rest.fake.hold = True
    assert asyncio.run(drive(rest, leaves_when=rest.fake.entered.wait)) == []
    assert rest.fake.cancelled
    assert lines(caplog)[0].startswith("POST /v1/read 499 cancelled ")
    assert 'code="cancelled"' in rest.counted()[0]


def test_a_server_that_stops_cancels_its_task(rest: Rest) -> None:
    rest.fake.hold = True

    async def stopped() -> None:
        running = asyncio.ensure_future(drive(rest))
        await rest.fake.entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(stopped())
    assert rest.fake.cancelled


def test_a_client_that_leaves_within_the_body(rest: Rest) -> None:
    async def once() -> None:
        messages: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return messages.pop()

        async def send(message: Mapping[str, Any]) -> None:
            pass

        for kind in (b"application/json", b"multipart/form-data; boundary=x"):
            messages[:] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]
            scope = {
                "type": "http", "method": "POST", "path": "/v1/read", "raw_path": b"/v1/read", "query_string": b"", "root_path": "",
                "headers": [(b"content-type", kind)],
            }  # fmt: skip
            await asyncio.wait_for(rest.application(scope, receive, send), 20)  # type: ignore[arg-type]

    asyncio.run(once())
    assert not rest.fake.calls
    assert not any('code="internal"' in line for line in rest.counted())


def test_requests_are_counted_by_task_and_code(rest: Rest) -> None:
    for task in OWN_FIELDS:
        rest.json(task)
    rest.json("read")
    problem(rest.json("read", {"seed": "x"}), 422, "invalid_request")
    problem(rest.raw("read", b"x"), 400, "invalid_request")
    problem(rest.raw("read", b"x", "text/plain"), 415, "unsupported_media_type")
    counted = set(rest.counted())
    ok = 'paliserve_requests_total{code="ok",model="fake-224",task="%s",transport="rest"} %s'
    assert {ok % (task, "2.0" if task == "read" else "1.0") for task in OWN_FIELDS} <= counted
    assert 'paliserve_requests_total{code="invalid_request",model="_other",task="read",transport="rest"} 2.0' in counted
    assert 'paliserve_requests_total{code="unsupported_media_type",model="_other",task="read",transport="rest"} 1.0' in counted
    assert len(counted) == len(OWN_FIELDS) + 2
    text = rest.get("/metrics").text
    assert 'paliserve_image_tokens_total{model="fake-224"} 2048.0' in text
    assert 'paliserve_completion_tokens_total{model="fake-224"} 24.0' in text
    assert 'paliserve_stage_duration_seconds_count{model="fake-224",stage="decode"} 8.0' in text


def test_strangers_make_no_labels(rest: Rest) -> None:
    for number in range(30):
        rest.get(f"/random/{number}")
        rest.get(f"/v1/models/random-{number}")
        rest.call("POST", f"/v1/random-{number}")
        rest.json("read", {"model": f"random-{number}", "seed": "x", "language": f"random-{number}"})
    assert rest.counted() == ['paliserve_requests_total{code="invalid_request",model="_other",task="read",transport="rest"} 30.0']
    assert "random" not in rest.get("/metrics").text


def test_what_is_not_http_passes(rest: Rest) -> None:
    async def start_and_stop() -> list[str]:
        messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
        sent = []

        async def receive() -> Mapping[str, Any]:
            return messages.pop()

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message["type"])

        await asyncio.wait_for(rest.application({"type": "lifespan"}, receive, send), 20)  # type: ignore[arg-type]
        return sent

    assert asyncio.run(start_and_stop()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

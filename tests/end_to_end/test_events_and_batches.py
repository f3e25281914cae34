"""Server-sent events and batches of the real server."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.end_to_end.conftest import Server

NAMES = ["purple star", "green square", "sign"]
FIELDS = {"objects": NAMES, "stream": "true"}
LONG = {"prompt": "caption en", "max_tokens": 1024}
"""What the endless model writes a thousand tokens about."""


def metric(server: Server, line: str) -> float:
    """The sum of the lines of the exposition that begin so."""
    found = [each for each in server.client.get("/metrics").text.splitlines() if each.startswith(line)]
    return sum(float(each.split()[-1]) for each in found)


def read(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Names and data of events as they come."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def timeless(body: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from request to request; scores differ in their last bits by company."""
    text = json.dumps({name: value for name, value in body.items() if name not in ("id", "timings_ms")})
    found: dict[str, Any] = json.loads(re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.3f}", text))
    return found


@pytest.mark.parametrize(("task", "kind"), [("detect", "detection"), ("segment", "segment")])
def test_objects_come_before_the_answer_is_written(server: Server, sample: bytes, task: str, kind: str) -> None:
    fields = {"objects": NAMES}
    with server.client.stream("POST", f"/v1/{task}", files={"image": sample}, data=fields | {"stream": "true"}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        events = list(read(response.iter_lines()))
    names = [name for name, _ in events]
    assert names.count(kind) >= 2
    assert names[-1] == "result"
    if task == "detect":
        assert names.index(kind) < len(names) // 2
    result = events[-1][1]
    assert result["id"] == response.headers["x-request-id"]
    assert "".join(data["text"] for name, data in events if name == "token") == result["text"]
    assert [{**data, "index": None} for name, data in events if name == kind] == [{**each, "index": None} for each in result[f"{kind}s"]]
    assert timeless(result) == timeless(server.client.post(f"/v1/{task}", files={"image": sample}, data=fields).json())


def test_errors_before_the_first_event_have_their_status(server: Server) -> None:
    body = {"image": "AAAA", "stream": True}
    response = server.client.post("/v1/caption", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_image")
    assert response.headers["content-type"] == "application/problem+json"
    response = server.client.post("/v1/caption", json=body | {"model": "unknown"})
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")


def test_time_that_runs_out_within_a_stream(endless: Server, sample: bytes) -> None:
    fields = LONG | {"image": base64.b64encode(sample).decode(), "stream": True, "timeout_ms": 600}
    response = endless.client.post("/v1/generate", json=fields)
    *events, (name, document) = read(iter(response.text.split("\n")))
    assert response.status_code == 200
    assert {each for each, _ in events} == {"token"}
    assert (name, document["code"], document["status"]) == ("error", "deadline_exceeded", 504)
    endless.wait_for("POST /v1/generate 200 deadline_exceeded ")


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions"])
def test_a_client_that_leaves_frees_its_slot(endless: Server, sample: bytes, path: str) -> None:
    picture = base64.b64encode(sample).decode()
    parts = [{"type": "text", "text": LONG["prompt"]}, {"type": "image_url", "image_url": {"url": picture}}]
    fields: dict[str, Any] = LONG | {"image": picture, "stream": True}
    if "chat" in path:
        fields = {"max_tokens": 1024, "messages": [{"role": "user", "content": parts}], "stream": True}
    with httpx.stream("POST", f"{endless.url}{path}", json=fields, timeout=60) as response:
        # Held: what closes it, closes the connection.
        events = response.iter_raw()
        next(events)
        assert metric(endless, 'paliserve_requests_running{model="endless"}') == 1
    endless.wait_for(rf"POST {path} 200 cancelled ")
    # Its slot is free before the next request is answered.
    assert endless.client.post("/v1/caption", json={"image": picture, "max_tokens": 1}).status_code == 200
    assert metric(endless, "paliserve_requests_running") == metric(endless, "paliserve_requests_waiting") == 0


def test_the_log_line_tells_the_streams_whole_time(endless: Server, sample: bytes) -> None:
    began = time.monotonic()
    response = endless.client.post("/v1/read", files={"image": sample}, data={"stream": "true", "max_tokens": "100"})
    took = 1000 * (time.monotonic() - began)
    told = float(endless.wait_for(r"POST /v1/read 200 ok ([\d.]+) ms").group(1))
    decode = list(read(iter(response.text.split("\n"))))[-1][1]["timings_ms"]["decode"]
    assert decode <= told <= took


def test_streams_end_well_when_the_server_is_told_to_stop(sample: bytes) -> None:
    running = Server()
    try:
        begun = threading.Event()

        def follow(_: int) -> str:
            with httpx.stream("POST", f"{running.url}/v1/segment", files={"image": sample}, data=FIELDS, timeout=60) as response:
                names = []
                for name, _ in read(response.iter_lines()):
                    names.append(name)
                    begun.set()
            return names[-1]

        with ThreadPoolExecutor(4) as clients:
            streams = [clients.submit(follow, number) for number in range(4)]
            begun.wait()
            assert running.stop() == 0
            # Those that came too late were told to go elsewhere, or found the door closed.
            ended = [each.result() for each in streams if each.exception() is None]
        assert "result" in ended
        assert set(ended) <= {"result"}
    finally:
        running.close()


def test_a_batch_answers_as_each_by_itself(server: Server, sample: bytes) -> None:
    picture = base64.b64encode(sample).decode()
    requests: list[dict[str, Any]] = [
        {"task": "caption"},
        {"task": "answer", "question": "what color is the star?"},
        {"task": "detect", "objects": NAMES},
        {"task": "segment", "objects": ["green square"], "mask_format": "polygon"},
        {"task": "read", "image": f"data:image/png;base64,{picture}"},
        {"task": "caption-region", "box": {"x_min": 470, "y_min": 75, "x_max": 616, "y_max": 222}},
        {"task": "generate", "prompt": "detect star ; sign"},
        {"task": "caption-region", "box": {"x_min": 470, "y_min": 75, "x_max": 9999, "y_max": 222}},
        {"task": "read", "image": "AAAA"},
        {"task": "read", "model": "unknown"},
    ]
    response = server.client.post("/v1/batch", json={"image": picture, "requests": requests})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [each["status"] for each in results] == [200] * 7 + [422, 422, 404]
    assert [each["error"]["code"] for each in results[7:]] == ["invalid_request", "invalid_image", "model_not_found"]
    for request, result in zip(requests[:7], results, strict=False):
        alone = server.client.post(f"/v1/{request['task']}", json={"image": picture} | {k: v for k, v in request.items() if k != "task"})
        assert timeless(result["response"]) == timeless(alone.json())


def test_a_batch_runs_together_and_encodes_its_picture_once(endless: Server, sample: bytes) -> None:
    encoded = metric(endless, 'paliserve_batch_size_sum{model="endless",phase="vision"}')
    before = [metric(endless, f'paliserve_batch_size_{part}{{model="endless",phase="decode"}}') for part in ("sum", "count")]
    tasks: list[dict[str, Any]] = [{"task": "caption"}, {"task": "read"}, {"task": "detect", "objects": NAMES}]
    body = {"image": base64.b64encode(sample).decode(), "requests": [task | {"max_tokens": 20} for task in tasks * 3]}
    results = endless.client.post("/v1/batch", json=body).json()["results"]
    assert [each["status"] for each in results] == [200] * 9
    assert metric(endless, 'paliserve_batch_size_sum{model="endless",phase="vision"}') == encoded + 1
    after = [metric(endless, f'paliserve_batch_size_{part}{{model="endless",phase="decode"}}') for part in ("sum", "count")]
    rows, steps = (late - early for late, early in zip(after, before, strict=True))
    assert rows > 2 * steps


def test_requests_of_their_own_share_nothing_without_a_cache(endless: Server, sample: bytes) -> None:
    encoded = metric(endless, 'paliserve_batch_size_sum{model="endless",phase="vision"}')
    for _ in range(2):
        endless.client.post("/v1/caption", files={"image": sample}, data={"max_tokens": "1"})
    assert metric(endless, 'paliserve_batch_size_sum{model="endless",phase="vision"}') == encoded + 2

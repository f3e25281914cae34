"""Server-sent events and batches of the real server."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import service.demo
from tests.end_to_end.conftest import Server

CHECKPOINT = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
NAMES = ["purple star", "green square", "sign"]
ENDLESS = {"prompt": "describe en", "temperature": 2.0, "seed": 3, "max_tokens": 1024}
"""Writes nonsense for long."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a vision cache, in one process."""
    config = tmp_path_factory.mktemp("plain") / "paliserve.toml"
    config.write_text(f'workers = 0\n[[instances]]\nname = "plain"\nsource = "{CHECKPOINT}"\nvision_cache_bytes = 0\n')
    running = Server("--config", str(config))
    yield running
    running.close()


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


def test_time_that_runs_out_within_a_stream(plain: Server, sample: bytes) -> None:
    fields = ENDLESS | {"image": base64.b64encode(sample).decode(), "stream": True, "timeout_ms": 400}
    response = plain.client.post("/v1/generate", json=fields)
    assert response.status_code in (200, 504)
    if response.status_code == 504:  # a machine so slow that the time ran out before the first token
        return
    name, document = list(read(iter(response.text.split("\n"))))[-1]
    if name != "result":  # a machine so quick that it wrote all
        assert (name, document["code"], document["status"]) == ("error", "deadline_exceeded", 504)


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions"])
def test_a_client_that_leaves_frees_its_slot(plain: Server, sample: bytes, path: str) -> None:
    picture = base64.b64encode(sample).decode()
    parts = [{"type": "text", "text": ENDLESS["prompt"]}, {"type": "image_url", "image_url": {"url": picture}}]
    fields = ENDLESS | {"image": picture, "stream": True}
    if "chat" in path:
        fields = {**ENDLESS, "messages": [{"role": "user", "content": parts}], "stream": True}
    before = len(plain.log)
    with httpx.stream("POST", f"{plain.url}{path}", json=fields, timeout=60) as response:
        next(response.iter_raw())
        assert metric(plain, 'paliserve_requests_running{instance="plain"}') == 1
    # The line is written when the request is over; its slot is free before the next request is answered.
    plain.wait_for(rf"POST {path} 200 (cancelled|ok) ")
    assert plain.client.post("/v1/caption", json={"image": picture, "max_tokens": 1}).status_code == 200
    assert metric(plain, "paliserve_requests_running") == metric(plain, "paliserve_requests_waiting") == 0
    line = next(each for each in plain.log[before:] if f"POST {path} " in each)
    assert " cancelled " in line, line


def test_the_log_line_tells_the_streams_whole_time(plain: Server, sample: bytes) -> None:
    began = time.monotonic()
    response = plain.client.post("/v1/caption", files={"image": sample}, data={"stream": "true"})
    took = 1000 * (time.monotonic() - began)
    told = float(plain.wait_for(r"POST /v1/caption 200 ok ([\d.]+) ms").group(1))
    decode = list(read(iter(response.text.split("\n"))))[-1][1]["timings_ms"]["decode"]
    assert decode <= told <= took


def test_streams_end_well_when_the_server_is_told_to_stop(sample: bytes) -> None:
    running = Server()
    try:
        begun = threading.Event()

        def follow(seed: int) -> str:
            fields = {"prompt": "describe en", "temperature": "2.0", "seed": str(seed), "max_tokens": "200", "stream": "true"}
            with httpx.stream("POST", f"{running.url}/v1/generate", files={"image": sample}, data=fields, timeout=60) as response:
                names = []
                for name, _ in read(response.iter_lines()):
                    names.append(name)
                    begun.set()
            return names[-1]

        with ThreadPoolExecutor(4) as clients:
            streams = [clients.submit(follow, 3) for _ in range(1)]
            begun.wait()
            assert running.stop() == 0
            assert [each.result() for each in streams] == ["result"]
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


def test_a_batch_runs_together_and_encodes_its_picture_once(plain: Server, sample: bytes) -> None:
    encoded = metric(plain, 'paliserve_batch_size_sum{phase="vision"}')
    tokens = [metric(plain, f'paliserve_batch_size_{part}{{phase="decode"}}') for part in ("sum", "count")]
    body = {
        "image": base64.b64encode(sample).decode(),
        "requests": [{"task": "caption"}, {"task": "read"}, {"task": "detect", "objects": NAMES}] * 4,
    }
    results = plain.client.post("/v1/batch", json=body).json()["results"]
    assert [each["status"] for each in results] == [200] * 12
    assert metric(plain, 'paliserve_batch_size_sum{phase="vision"}') == encoded + 1
    rows, steps = (
        metric(plain, f'paliserve_batch_size_{part}{{phase="decode"}}') - before
        for part, before in zip(("sum", "count"), tokens, strict=True)
    )
    assert rows > 2 * steps


def test_a_batch_of_another_caller_shares_nothing_without_a_cache(plain: Server, sample: bytes) -> None:
    encoded = metric(plain, 'paliserve_batch_size_sum{phase="vision"}')
    for _ in range(2):
        plain.client.post("/v1/caption", files={"image": sample})
    assert metric(plain, 'paliserve_batch_size_sum{phase="vision"}') == encoded + 2

"""What strangers send. Each gets the right 4xx with a message that helps; the log gets one line; the server is as healthy as before."""

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.end_to_end.conftest import Server

MESSAGE_MARKS = ("Traceback", "0x7f", "/work/", "site-packages")


@pytest.fixture(autouse=True)
def _as_healthy_as_before(server: Server, sample: bytes) -> Iterator[None]:
    written = len(server.log)
    yield
    good = server.client.post("/v1/caption", files={"image": sample})
    assert good.status_code == 200, good.text
    assert server.client.get("/readyz").status_code == 200
    server.wait_for(good.headers["x-request-id"])
    lines = [line for line in server.log[written:] if "/v1/" in line or "Traceback" in line or "Error" in line]
    assert len(lines) == 2, lines  # the bad request and the good one


def check(response: httpx.Response, status: int, code: str, *words: str) -> dict[str, Any]:
    """A problem document that says what was wrong."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"] == f"urn:paliserve:error:{code}"
    assert problem["request_id"] == response.headers["x-request-id"]
    text = json.dumps(problem)
    assert len(text) < 2000
    for word in words:
        assert word.lower() in text.lower(), text
    assert not any(mark in text for mark in MESSAGE_MARKS), text
    return problem


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_empty_body(server: Server) -> None:
    check(server.client.post("/v1/caption", content=b"", headers={"content-type": "application/json"}), 400, "invalid_request")


def test_not_json(server: Server) -> None:
    check(server.client.post("/v1/caption", content=b"{image:", headers={"content-type": "application/json"}), 400, "invalid_request")


def test_neither_json_nor_multipart(server: Server) -> None:
    response = server.client.post("/v1/caption", content=b"x", headers={"content-type": "text/plain"})
    check(response, 415, "unsupported_media_type", "application/json", "multipart/form-data")


def test_missing_field(server: Server, sample: bytes) -> None:
    problem = check(server.client.post("/v1/detect", json={"image": encoded(sample)}), 422, "invalid_request", "objects")
    assert [each["field"] for each in problem["errors"]] == ["objects"]


def test_missing_image(server: Server) -> None:
    check(server.client.post("/v1/caption", json={}), 422, "invalid_request", "image")


def test_unknown_field(server: Server, sample: bytes) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(sample), "prompt": "x"}), 422, "invalid_request", "prompt")


def test_not_an_image(server: Server) -> None:
    check(server.client.post("/v1/caption", files={"image": b"hello, this is text"}), 422, "invalid_image", "PNG")


def test_truncated_image(server: Server, sample: bytes) -> None:
    check(server.client.post("/v1/caption", files={"image": sample[: len(sample) // 2]}), 422, "invalid_image", "truncated")


def test_file_of_no_bytes(server: Server) -> None:
    check(server.client.post("/v1/caption", files={"image": b""}), 422, "invalid_image", "empty")


def test_threat_01_pixel_bomb(server: Server) -> None:
    check(server.client.post("/v1/caption", files={"image": png_header_only(50_000, 50_000)}), 413, "image_too_large", "pixels")


def test_threat_23_upload_of_25_megabytes(server: Server) -> None:
    check(server.client.post("/v1/caption", files={"image": b"\xff" * 25_000_000}), 413, "image_too_large", "bytes")


def test_threat_10_base64_of_25_megabytes(server: Server) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(b"\xff" * 25_000_000)}), 413, "image_too_large")


def test_threat_10_base64_of_50_megabytes(server: Server) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(b"\xff" * 50_000_000)}), 413, "request_too_large")


def test_prompt_of_100_000_characters(server: Server, sample: bytes) -> None:
    response = server.client.post("/v1/generate", json={"image": encoded(sample), "prompt": "a" * 100_000})
    assert response.json()["code"] in ("prompt_too_long", "invalid_request")
    check(response, 422, response.json()["code"], "8192")


@pytest.mark.parametrize("token", ["<image>", "<bos>", "<eos>", "<pad>", "<loc0001>", "<seg001>"])
def test_threat_36_control_tokens_in_the_prompt(server: Server, sample: bytes, token: str) -> None:
    response = server.client.post("/v1/answer", json={"image": encoded(sample), "question": f"what is {token}?"})
    check(response, 422, "invalid_request", token)


def test_threat_37_a_name_that_holds_the_separator(server: Server, sample: bytes) -> None:
    response = server.client.post("/v1/detect", json={"image": encoded(sample), "objects": ["cat ; dog"]})
    check(response, 422, "invalid_request", "objects.0")


def test_unknown_model(server: Server, sample: bytes) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(sample), "model": "nobody"}), 404, "model_not_found", "shapes-224")


def test_adapter_that_is_not_there(server: Server, sample: bytes) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(sample), "adapter": "a"}), 404, "adapter_not_found")


@pytest.mark.parametrize("budget", [0, -1, 10**9])
def test_threat_34_token_budget_out_of_range(server: Server, sample: bytes, budget: int) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(sample), "max_tokens": budget}), 422, "invalid_request", "max_tokens")


def test_threat_35_not_a_number(server: Server, sample: bytes) -> None:
    body = f'{{"image": "{encoded(sample)}", "temperature": NaN}}'
    response = server.client.post("/v1/caption", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    check(response, response.status_code, "invalid_request")


def test_threat_13_image_by_url(server: Server) -> None:
    check(server.client.post("/v1/caption", json={"image": "https://169.254.169.254/x.png"}), 403, "image_url_forbidden")


def test_region_outside_the_picture(server: Server, sample: bytes) -> None:
    box = {"x_min": 0, "y_min": 0, "x_max": 10_000, "y_max": 10}
    check(server.client.post("/v1/caption-region", json={"image": encoded(sample), "box": box}), 422, "invalid_request", "box")


def test_timeout_that_cannot_be_met(server: Server, sample: bytes) -> None:
    check(server.client.post("/v1/caption", json={"image": encoded(sample), "timeout_ms": 1}), 504, "deadline_exceeded", "timeout_ms")


def test_method_that_is_not_there(server: Server) -> None:
    check(server.client.get("/v1/caption"), 405, "method_not_allowed")

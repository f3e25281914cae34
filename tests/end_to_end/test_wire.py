"""What only the real server shows: whoever sends badly is cut off, memory stays where it was, and everybody else is served."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from tests.end_to_end.conftest import Server

MOST_CONNECTIONS = 60
SETTINGS = {
    "PALISERVE_RECEIVE_HEAD_SECONDS": "2",
    "PALISERVE_RECEIVE_BODY_SECONDS": "2",
    "PALISERVE_MAX_CONNECTIONS": str(MOST_CONNECTIONS),
    "PALISERVE_MAX_HELD_BYTES": "60000000",
}
GROWN = 40_000_000
"""Bytes that the process may have grown by: less than a seventh of what is sent."""

HEAD = b"POST /v1/caption HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """A server with small limits."""
    running = Server(environ=SETTINGS)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _still_serving(narrow: Server, sample: bytes) -> Iterator[None]:
    caption(narrow.client, sample)
    yield
    caption(narrow.client, sample)
    settled(narrow, "paliserve_held_bytes", 0)


def caption(client: httpx.Client, sample: bytes) -> None:
    response = client.post("/v1/caption", files={"image": sample})
    assert response.status_code == 200, response.text


def resident(server: Server) -> int:
    """Bytes of memory that the server's process holds."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def gauge(server: Server, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def settled(server: Server, name: str, value: float) -> None:
    """Until a gauge has come back."""
    until = time.monotonic() + 30
    while gauge(server, name) != value:
        assert time.monotonic() < until, name


def connect(server: Server) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def poured(server: Server, head: bytes, piece: bytes, most: int) -> tuple[int, bytes]:
    """How many bytes could be sent before the server closed, and what it answered."""
    with connect(server) as open_one:
        sent = 0
        with suppress(ConnectionError):
            open_one.sendall(head)
            while sent < most:
                open_one.sendall(piece)
                sent += len(piece)
        answer = b""
        with suppress(ConnectionError):
            while data := open_one.recv(65_536):
                answer += data
        return sent, answer


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET / HTTP/1.1\r\nhost: localhost\r\na: ", b"b" * 1_000_000),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n", b"a: b\r\n" * 160_000),
        (b"GET /", b"x" * 1_000_000),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"x" * 1_000_000),
    ],
    ids=["one header", "a million headers", "path", "chunk extension"],
)
def test_threat_21_three_hundred_megabytes_of_head_leave_memory_flat(narrow: Server, head: bytes, piece: bytes) -> None:
    before = resident(narrow)
    sent, answer = poured(narrow, head, piece, 300_000_000)
    # What the buffers of the sockets hold is gone before the end is heard of.
    assert sent < 60_000_000
    assert not answer or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert resident(narrow) - before < GROWN


def test_threat_23_a_million_chunks_of_one_byte(narrow: Server) -> None:
    before = resident(narrow)
    sent, answer = poured(narrow, HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n{\r\n" * 100_000, 6_000_000)
    assert not answer or answer.startswith(b"HTTP/1.1 400 "), answer
    assert sent <= 6_000_000
    assert resident(narrow) - before < GROWN


def test_threat_11_more_than_may_be_held_is_refused_while_others_are_served(narrow: Server, sample: bytes) -> None:
    holding = [connect(narrow) for _ in range(3)]
    refused = 0
    with suppress(ConnectionError):
        for each in holding:
            each.sendall(HEAD + b"content-length: 50000000\r\n\r\n" + b" " * 25_000_000)
    for each in holding:
        each.settimeout(1)
        with suppress(ConnectionError, TimeoutError):
            answer = each.recv(65_536)
            refused += answer.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 408 "))
        each.close()
    assert refused
    assert gauge(narrow, "paliserve_held_bytes_limit") == 60_000_000
    caption(narrow.client, sample)


def test_threat_22_half_open_connections_up_to_the_cap_cost_those_who_are_there_nothing(narrow: Server, sample: bytes) -> None:
    with httpx.Client(base_url=narrow.url, timeout=60) as bystander:
        caption(bystander, sample)
        flood = [connect(narrow) for _ in range(3 * MOST_CONNECTIONS)]
        for each in flood:
            with suppress(ConnectionError):
                each.sendall(b"POST /v1/caption HTTP/1.1\r\nhost:")
        caption(bystander, sample)
        answers = []
        for each in flood:
            with suppress(ConnectionError):
                answers.append(each.recv(65_536)[:13])
            each.close()
        assert set(answers) <= {b"HTTP/1.1 503 ", b"HTTP/1.1 408 ", b""}
        assert answers.count(b"HTTP/1.1 408 ") > 0
        caption(bystander, sample)


def test_threat_22_many_drip_feeders_are_cut_while_a_bystander_is_served(narrow: Server, sample: bytes) -> None:
    dripping = [connect(narrow) for _ in range(MOST_CONNECTIONS // 2)]
    for each in dripping:
        each.sendall(HEAD + b"content-length: 1000000\r\n\r\n{")
    alive = set(dripping)
    until = time.monotonic() + 60
    while alive:
        assert time.monotonic() < until
        for each in list(alive):
            try:
                each.sendall(b" ")
            except ConnectionError:
                alive.discard(each)
        caption(narrow.client, sample)
    for each in dripping:
        each.close()
    assert any(" 408 request_timeout" in line for line in narrow.log)


def test_threat_29_calls_that_are_opened_and_cancelled_leave_slots_queue_and_memory(narrow: Server, sample: bytes) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{narrow.grpc_port}") as channel:
        stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(channel)  # type: ignore[no-untyped-call]
        request = pb.CaptionRequest(image=sample)
        stub.Caption(request)

        def storm() -> None:
            for _ in range(50):
                calls = [stub.Caption.future(request) for _ in range(100)]
                for call in calls:
                    call.cancel()
            for name in ("paliserve_requests_waiting", "paliserve_requests_running", "paliserve_held_bytes"):
                settled(narrow, name, 0)

        # The first fills what is kept for later: arenas, buffers, the vision cache.
        storm()
        before = resident(narrow)
        storm()
        assert resident(narrow) - before < GROWN
        assert stub.Caption(request).caption

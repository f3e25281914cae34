"""A server is told to stop while more than a thousand requests are on their way: none that it took is lost."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.bench.http_connection import Connection
from service.bench.http_framing import post
from tests.end_to_end.conftest import CHECKPOINT, Server
from tests.end_to_end.crowd import Crowd, Outcome
from tests.end_to_end.test_grpc import HELD, metric

AT_ONCE = {"plain": 440, "events": 240, "unary": 340, "stream": 180}
ACCEPTED = 1000
STAYING = 16
"""Clients who keep their connection and ask again and again, so that some of them always ask just as a connection may end."""


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Server]:
    """A server that takes them all."""
    config = tmp_path / "paliserve.toml"
    config.write_text(
        "max_queue = 4000\nmax_queue_seconds = 600\ngrpc_max_calls = 4000\ndefault_timeout_seconds = 280\n"
        f'[[instances]]\nname = "shapes-224"\nsource = "{CHECKPOINT}"\n'
    )
    running = Server("--config", str(config))
    yield running
    running.close()


async def stay(crowd: Crowd) -> None:
    """Ask on one connection until the server refuses."""
    connection = Connection(crowd.http)
    raw = post("/v1/caption", {"image": json.loads(crowd.raw({}).partition(b"\r\n\r\n")[2])["image"], "max_tokens": 4})
    try:
        while True:
            status, _ = await connection.ask(raw)
            crowd.end("staying", Outcome.ANSWERED if status == 200 else Outcome.REFUSED)
            if status != 200:
                return
    except ConnectionRefusedError:
        crowd.end("staying", Outcome.TURNED_AWAY)
    except (OSError, EOFError) as error:
        crowd.end("staying", Outcome.LOST, repr(error))
    finally:
        connection.close()


async def stop_amid(server: Server, crowd: Crowd) -> int:
    """Everybody asks; the signal comes when half are answered. Returns how many were answered when readiness had fallen."""
    ways = [getattr(crowd, way) for way, count in AT_ONCE.items() for _ in range(count)]
    async with grpc.aio.insecure_channel(crowd.grpc) as channel, asyncio.TaskGroup() as group:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        for way in ways:
            group.create_task(way())
        for _ in range(STAYING):
            group.create_task(stay(crowd))
        while len(crowd.ended) < len(ways) / 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        ready = Connection(crowd.http)
        assert (await ready.ask(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))[0] == 503
        ready.close()
        fallen = len(crowd.ended)
        watching.cancel()
    await crowd.close()
    return fallen


def test_a_signal_amid_a_thousand_requests_loses_none(roomy: Server) -> None:
    crowd = Crowd(roomy.port, f"127.0.0.1:{roomy.grpc_port}")
    fallen = asyncio.run(stop_amid(roomy, crowd))
    assert roomy.process.wait(timeout=90) == 0
    tally = crowd.tally()
    print(f"draining: {fallen} had ended when readiness fell; then {dict(tally)}")
    assert crowd.lost == []
    assert tally[Outcome.ANSWERED] >= ACCEPTED
    assert fallen < len(crowd.ended)
    for way, count in AT_ONCE.items():
        assert sum(each.way == way for each in crowd.ended) == count
    assert "stopped" in roomy.log[-1]


def test_a_second_signal_stops_at_once(endless_settings: Path) -> None:
    server = Server("--config", str(endless_settings))
    crowd = Crowd(server.port, f"127.0.0.1:{server.grpc_port}", fields={"prompt": "caption en", "max_tokens": 1024})

    async def stop_twice() -> int:
        async with asyncio.TaskGroup() as group:
            for way in [crowd.plain, crowd.events, crowd.unary, crowd.stream] * 40:
                group.create_task(way())
            while await asyncio.to_thread(metric, server, HELD) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for, "finishing what was accepted")
            server.process.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(server.process.wait, 60)
        await crowd.close()
        return status

    try:
        assert asyncio.run(stop_twice()) == 0
    finally:
        server.close()
    assert crowd.tally()[Outcome.ANSWERED] < 40


def test_who_comes_after_the_signal_and_leaves_slowly_keeps_nobody(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text(f'[[instances]]\nname = "shapes-224"\nsource = "{CHECKPOINT}"\n')
    server = Server("--config", str(config))
    announced = b"POST /v1/caption HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 2000000\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2)]
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("finishing what was accepted")
    until = time.monotonic() + 40
    with suppress(OSError):
        held[0].sendall(announced)
        while server.process.poll() is None and time.monotonic() < until:
            # Refused at once, and then waited for a while with what was announced.
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            held[-1].sendall(announced)
            time.sleep(0.3)
    try:
        assert server.process.wait(timeout=15) == 0
        assert time.monotonic() < until
    finally:
        for each in held:
            each.close()
        server.close()

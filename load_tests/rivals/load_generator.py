"""The one client of all servers. It runs in a process of its own and sends bytes that were made before.

A closed loop keeps so many requests in flight until the measured number of replies has come. It measures from the reply that ends the
ramp to the last one that counts, while new requests still follow: neither an empty server's start nor its emptying is part of the figure,
and a server that answers in batches is measured from the end of a batch to the end of a batch. An open loop sends at given times, whatever
the server does, and gives a request up when it can no longer be in time.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from load_tests.rivals.http_framing import Connection

GAVE_UP = 0
"""Stands for the status of a request that had no reply in time."""

BROKEN = -1
"""Stands for the status of a request whose connection failed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request went. Times are seconds since the first request was sent."""

    index: int
    status: int
    sent: float
    ended: float
    fields: dict[str, Any]

    @property
    def latency(self) -> float:
        """Seconds."""
        return self.ended - self.sent


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``concurrent`` requests in flight; after ``ramp`` replies, ``count`` are measured, or fewer when ``longest`` seconds are over."""

    port: int
    concurrent: int
    ramp: int
    count: int
    longest: float

    @property
    def needed(self) -> int:
        """How many requests may be sent at most."""
        return self.ramp + self.count + self.concurrent


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests at these times (seconds from the start), each given up after ``patience`` seconds."""

    port: int
    times: tuple[float, ...]
    patience: float


def run_closed(loop: ClosedLoop, requests: Sequence[bytes]) -> list[Reply]:
    """All replies in the order they came, those after the measured ones included."""
    return asyncio.run(_closed(loop, requests))


def run_open(loop: OpenLoop, requests: Sequence[bytes]) -> list[Reply]:
    """All replies in the order they came."""
    return asyncio.run(_open(loop, requests))


class _Recorder:
    def __init__(self) -> None:
        self.replies: list[tuple[int, int, float, float, bytes]] = []
        self.began = time.perf_counter()

    async def ask(self, connection: Connection, index: int, raw: bytes) -> None:
        sent = time.perf_counter()
        try:
            status, body = await connection.ask(raw)
        except (OSError, EOFError, ValueError):
            status, body = BROKEN, b""
            connection.close()
        self.add(index, status, sent, body)

    def add(self, index: int, status: int, sent: float, body: bytes = b"") -> None:
        self.replies.append((index, status, sent - self.began, time.perf_counter() - self.began, body))

    def finished(self) -> list[Reply]:
        """Bodies are parsed only now, when no server is being measured."""
        return [Reply(index, status, sent, ended, _fields(body)) for index, status, sent, ended, body in self.replies]


async def _closed(loop: ClosedLoop, requests: Sequence[bytes]) -> list[Reply]:
    recorder = _Recorder()
    waiting = enumerate(requests)

    def done() -> bool:
        replies = recorder.replies
        return len(replies) >= loop.ramp + loop.count or (len(replies) > loop.ramp and time.perf_counter() - recorder.began > loop.longest)

    async def visitor() -> None:
        connection = Connection(loop.port)
        while not done():
            following = next(waiting, None)
            if following is None:
                break
            await recorder.ask(connection, *following)
        connection.close()

    await asyncio.gather(*(visitor() for _ in range(loop.concurrent)))
    return recorder.finished()


async def _open(loop: OpenLoop, requests: Sequence[bytes]) -> list[Reply]:
    recorder = _Recorder()
    idle: list[Connection] = []

    async def visitor(index: int, raw: bytes) -> None:
        connection = idle.pop() if idle else Connection(loop.port)
        sent = time.perf_counter()
        try:
            async with asyncio.timeout(loop.patience):
                await recorder.ask(connection, index, raw)
        except TimeoutError:
            connection.close()
            recorder.add(index, GAVE_UP, sent)
        idle.append(connection)

    async with asyncio.TaskGroup() as visitors:
        for index, (moment, raw) in enumerate(zip(loop.times, requests, strict=True)):
            await asyncio.sleep(recorder.began + moment - time.perf_counter())
            visitors.create_task(visitor(index, raw))
    for connection in idle:
        connection.close()
    return recorder.finished()


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}

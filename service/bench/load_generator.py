"""The one client of all servers. Its requests are ready before they are sent, and its replies are read when nobody is measured any more.

A closed loop keeps so many requests in flight until the measured number of replies has come. It measures from the reply that ends the
ramp to the last one that counts, while new requests still follow: neither an empty server's start nor its emptying is part of the figure,
and a server that answers in batches is measured from the end of a batch to the end of a batch. An open loop sends at given times, whatever
the server does, and gives a request up when it can no longer be in time. Its latencies count from these times: what a client in distress
sends too late is not left out (coordinated omission).
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from service.bench.http_connection import BROKEN

GAVE_UP = 0
"""Stands for the status of a request that had no reply in time."""

REFUSED_PAUSE = 0.05
"""Seconds until a visitor of a closed loop who was not answered comes again: asking is not all that it is to do."""

Asked = TypeVar("Asked")
Asked_contra = TypeVar("Asked_contra", contravariant=True)


class Line(Protocol[Asked_contra]):
    """What one request at a time is sent over."""

    async def ask(self, raw: Asked_contra, hear: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        """Send a request; returns status and body. ``hear`` gets each piece of a stream. Errors: OSError, EOFError, ValueError."""
        ...

    def close(self) -> None:
        """Drop it, and with it a request that is not answered yet."""
        ...


class Server(Protocol[Asked_contra]):
    """Where lines lead to."""

    def connect(self) -> Line[Asked_contra]:
        """A line that is not open yet."""
        ...

    def read(self, status: int, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status in the end, and the fields of a reply."""
        ...

    async def close(self) -> None:
        """What all lines share."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request went. Times are seconds since the loop began.

    ``due``: when it was to be sent; ``late`` seconds after that it was. ``first``: when a stream's first piece came; nan: no stream.
    """

    index: int
    status: int
    due: float
    ended: float
    fields: dict[str, Any]
    late: float = 0.0
    first: float = math.nan

    @property
    def latency(self) -> float:
        """Seconds, from when it was due."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True)
class ClosedLoop(Generic[Asked]):
    """``concurrent`` requests in flight; after ``ramp`` replies, ``count`` are measured, or fewer when ``longest`` seconds are over.

    Each is given up after ``patience`` seconds, where there are any.
    """

    server: Server[Asked]
    concurrent: int
    ramp: int
    count: int
    longest: float
    patience: float | None = None

    @property
    def needed(self) -> int:
        """How many requests may be sent at most."""
        return self.ramp + self.count + self.concurrent


@dataclass(frozen=True, slots=True)
class OpenLoop(Generic[Asked]):
    """Requests at these times (seconds from the start), each given up after ``patience`` seconds."""

    server: Server[Asked]
    times: tuple[float, ...]
    patience: float


def run_closed(loop: ClosedLoop[Asked], requests: Iterable[Asked]) -> list[Reply]:
    """All replies in the order they came, those after the measured ones included."""
    recorder = Recorder()
    asyncio.run(send_closed(loop, requests, recorder))
    return recorder.replies(loop.server)


def run_open(loop: OpenLoop[Asked], requests: Iterable[Asked]) -> list[Reply]:
    """All replies in the order they came."""
    recorder = Recorder()
    asyncio.run(send_open(loop, requests, recorder))
    return recorder.replies(loop.server)


class Recorder:
    """What one loop heard so far: a cancelled loop leaves it whole. ``began``: as ``time.perf_counter`` tells it."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.answered = 0
        self._heard: list[tuple[int, int, float, float, float, float, bytes]] = []

    def __len__(self) -> int:
        return len(self._heard)

    @property
    def seconds(self) -> float:
        """Since the loop began."""
        return time.perf_counter() - self.began

    async def ask(self, line: Line[Asked], index: int, raw: Asked, patience: float | None, due: float | None = None) -> bool:
        """Send one request and note how it went; returns whether it was answered. ``due``: now, where it is not given."""
        sent = self.seconds
        first = math.nan

        def hear(piece: bytes) -> None:
            nonlocal first
            # Comments only say that the connection lives.
            if math.isnan(first) and not piece.startswith(b":"):
                first = self.seconds

        status, body = BROKEN, b""
        try:
            async with asyncio.timeout(patience):
                status, body = await line.ask(raw, hear)
        except TimeoutError:
            status = GAVE_UP
            line.close()
        except (OSError, EOFError, ValueError):
            line.close()
        except asyncio.CancelledError:
            line.close()
            raise
        due = sent if due is None else due
        self._heard.append((index, status, due, self.seconds, sent - due, first, body))
        self.answered += status == 200
        return status == 200

    def replies(self, server: Server[Asked]) -> list[Reply]:
        """In the order they came. Bodies are parsed only now, when no server is being measured."""
        read = ((index, *server.read(status, body), rest) for index, status, *rest, body in self._heard)
        return [Reply(index, status, due, ended, fields, late, first) for index, status, fields, (due, ended, late, first) in read]


async def send_closed(loop: ClosedLoop[Asked], requests: Iterable[Asked], recorder: Recorder) -> None:
    """Until the loop is over or ``requests`` are."""
    waiting = enumerate(requests)

    def done() -> bool:
        return len(recorder) >= loop.ramp + loop.count or (len(recorder) > loop.ramp and recorder.seconds > loop.longest)

    async def visitor() -> None:
        line = loop.server.connect()
        try:
            while not done():
                following = next(waiting, None)
                if following is None:
                    break
                if not await recorder.ask(line, *following, loop.patience):
                    await asyncio.sleep(REFUSED_PAUSE)
        finally:
            line.close()

    await asyncio.gather(*(visitor() for _ in range(loop.concurrent)))


async def send_open(loop: OpenLoop[Asked], requests: Iterable[Asked], recorder: Recorder) -> None:
    """All of them, and until the last one is answered or given up."""
    idle: list[Line[Asked]] = []

    async def visitor(index: int, raw: Asked, due: float) -> None:
        line = idle.pop() if idle else loop.server.connect()
        await recorder.ask(line, index, raw, loop.patience, due)
        idle.append(line)

    try:
        async with asyncio.TaskGroup() as visitors:
            for index, (due, raw) in enumerate(zip(loop.times, requests, strict=False)):
                await asyncio.sleep(due - recorder.seconds)
                visitors.create_task(visitor(index, raw, due))
    finally:
        for line in idle:
            line.close()

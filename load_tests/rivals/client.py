"""A light load generator: keep-alive connections and bodies written beforehand, so that the servers are measured and not the client."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Message = tuple[str, bytes]
"""Path and body."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request's end. ``seconds`` from its sending, or in an open loop from the moment it was due."""

    status: int
    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """Answers in the order of the requests, and the seconds that all took."""

    answers: list[Answered]
    seconds: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return sum(each.status == 200 for each in self.answers) / self.seconds

    def latency(self, percent: float, status: int = 200) -> float:
        """Milliseconds within which so many per cent of the answers with this status came; NaN where there is none."""
        times = [1000 * each.seconds for each in self.answers if each.status == status]
        return float(np.percentile(times, percent)) if times else float("nan")


class Connection:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: Message, began: float | None = None) -> Answered:
        """Send one request and read its answer."""
        began = time.perf_counter() if began is None else began
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        reader, writer = self._streams
        path, body = message
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.split(b"content-length:")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        if b"connection: close" in answer:
            self.close()
        status = int(answer.split()[1])
        text = json.loads(content)["text"] if status == 200 else ""
        return Answered(status, time.perf_counter() - began, text)

    def close(self) -> None:
        """Let it go."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def closed_loop(port: int, messages: Sequence[Message], concurrent: int) -> Run:
    """``concurrent`` callers, each of whom asks again as soon as it has its answer."""

    async def run() -> Run:
        coming = iter(enumerate(messages))
        answers: list[Answered] = [Answered(0, 0.0, "")] * len(messages)

        async def caller() -> None:
            connection = Connection(port)
            for index, message in coming:
                answers[index] = await connection.ask(message)
            connection.close()

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(concurrent)))
        return Run(answers, time.perf_counter() - began)

    return asyncio.run(run())


def open_loop(port: int, messages: Sequence[Message], rate: float, seed: int = 0) -> Run:
    """Requests come by themselves, ``rate`` a second on average (Poisson), whether the server keeps up or not."""

    async def run() -> Run:
        due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(messages)))
        free: list[Connection] = []
        began = time.perf_counter()

        async def one(message: Message, moment: float) -> Answered:
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            connection = free.pop() if free else Connection(port)
            try:
                return await connection.ask(message, began + moment)
            finally:
                free.append(connection)

        answers = await asyncio.gather(*(one(message, float(moment)) for message, moment in zip(messages, due, strict=True)))
        for connection in free:
            connection.close()
        return Run(list(answers), time.perf_counter() - began)

    return asyncio.run(run())

"""A REST application behind uvicorn and the service's own protocol, for clients that write their bytes themselves."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import uvicorn

from service.observability.metrics import Metrics
from service.transports.rest.connections import ConnectionLimits, Connections
from service.transports.rest.protocol import Entrance
from service.transports.rest.receipts import Times

PATIENT = Times(head=20.0, body=20.0, send=20.0, rate=32_000)
LIMITS = ConnectionLimits(0, 0, PATIENT)
T = TypeVar("T")


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def all(self) -> bytes:
        """What comes until the server closes; a reset is an end too."""
        found = b""
        try:
            while data := await self.reader.read(65_536):
                found += data
        except ConnectionError:
            pass
        return found

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", "0")))


@dataclass
class Served:
    """A running server."""

    address: tuple[str, int]
    metrics: Metrics
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self, **arguments: Any) -> Client:
        reader, writer = await asyncio.open_connection(*self.address, **arguments)
        self._writers.append(writer)
        return Client(reader, writer)

    async def ask(self, data: bytes) -> bytes:
        """Everything that is answered to these bytes until the server closes."""
        client = await self.connect()
        await client.say(data)
        return await client.all()

    def counted(self, name: str) -> dict[str, float]:
        """Samples of a metric, by the text of their labels."""
        lines = self.metrics.exposition()[0].decode().splitlines()
        found = (line.rpartition(" ") for line in lines if line.startswith((f"{name} ", f"{name}{{")))
        return {labels.removeprefix(name): float(value) for labels, _, value in found}

    def cut(self, reason: str) -> float:
        """How many connections were closed early for it."""
        return self.counted("paliserve_connections_cut_total")[f'{{reason="{reason}"}}']


@asynccontextmanager
async def _running(
    application: Any, metrics: Metrics, limits: ConnectionLimits, keep_alive: float, entrance: Entrance | None
) -> AsyncIterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = Connections(limits, metrics)
        connections.entrance = entrance
        protocol = cast("type[asyncio.Protocol]", connections.protocol)
        config = uvicorn.Config(
            application, http=protocol, ws="none", log_config=None, access_log=False, timeout_keep_alive=cast("int", keep_alive),
            timeout_graceful_shutdown=1, lifespan="off",
        )  # fmt: skip
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        served = Served(listener.getsockname(), metrics)
        try:
            yield served
        finally:
            for writer in served._writers:
                writer.transport.abort()
            server.should_exit = True
            await serving


def with_server(
    application: Any,
    metrics: Metrics,
    work: Callable[[Served], Awaitable[T]],
    limits: ConnectionLimits = LIMITS,
    keep_alive: float = 20.0,
    entrance: Entrance | None = None,
) -> T:
    """What ``work`` gives, with the application served."""

    async def once() -> T:
        async with _running(application, metrics, limits, keep_alive, entrance) as served:
            return await work(served)

    return asyncio.run(asyncio.wait_for(once(), 60))


def limited(at_once: int = 0, of_address: int = 0, **times: float) -> ConnectionLimits:
    """Limits that are patient but for what is given."""
    return ConnectionLimits(at_once, of_address, replace(PATIENT, **cast("dict[str, Any]", times)))


def problem_in(answer: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the problem document of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), answer
    assert b"x-request-id: " in head.lower(), answer
    found: dict[str, Any] = json.loads(body)
    return int(head.split()[1]), found


async def until(condition: Callable[[], bool]) -> None:
    """Turns of the loop until the condition holds; the test's own time bounds it."""
    while not condition():  # noqa: ASYNC110 (it is the server's doing, which tells nobody)
        await asyncio.sleep(0.005)

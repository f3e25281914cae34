"""A gRPC server over a fake service, on a loop of its own, and a client that speaks to it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import grpc
import pytest

from service.access.gate import Gate
from service.observability.metrics import Metrics
from service.transports.grpc.generated import paligemma_pb2_grpc
from service.transports.grpc.server import GrpcServer, Limits
from tests.transports.rest.service_fake import FakeService, FakeTasks

LIMITS = Limits(50_000, 512, 128, 60.0, 20.0, 10.0, None)
T = TypeVar("T")


class Grpc:
    """The real server over a fake service."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits = LIMITS, reflected: bool = True, gate: Gate | None = None) -> None:
        self._loop = loop
        self.service = FakeService()
        self.metrics = Metrics("0")
        self.budget = limits.budget
        self.port = self.run(self._start(limits, reflected, gate))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=(("grpc.use_local_subchannel_pool", 1),))
        self.stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def fake(self) -> FakeTasks:
        return self.service.fake

    def run(self, work: Awaitable[T]) -> T:
        """On the server's loop; returns what it gives."""

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(30)

    def tell(self, serving: bool) -> None:
        """As ``GrpcServer.tell``."""

        async def told() -> None:
            self.server.tell(serving)

        self.run(told())

    def counted(self) -> list[str]:
        """The lines of the requests' counter."""
        body, _ = self.metrics.exposition()
        return [line for line in body.decode().splitlines() if line.startswith("paliserve_requests_total")]

    def close(self) -> None:
        self.channel.close()
        self.run(self.server.stop(at_once=True))

    async def _start(self, limits: Limits, reflected: bool, gate: Gate | None) -> int:
        self.server = GrpcServer(self.service, self.metrics, limits, reflected, "0", gate=gate)
        return await self.server.start("127.0.0.1", 0)


def refused(call: Callable[..., object], request: object, **arguments: Any) -> grpc.Call:
    """The error that a unary call fails with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **arguments)
    error: Any = caught.value
    return cast("grpc.Call", error)

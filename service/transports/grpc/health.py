"""``grpc.health.v1``: whether the server, each of its services and each of its instances takes requests."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.transports.grpc.calls import Context

Answer = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """A name that nothing was told of by itself has the state of the whole; others need both.

    The library's own servicer forgets who watches a name once another one who watched it leaves, and waits for clients who do not read.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset({"", *names})
        self._serving = False
        self._warm: dict[str, bool] = {}
        self._closed = False
        self._changed = asyncio.Event()

    def tell(self, serving: bool) -> None:
        """Let all who ask and all who watch know."""
        self._serving = serving
        self._wake()

    def tell_of(self, name: str, warm: bool) -> None:
        """Let all who ask about one name know."""
        self._warm[name] = warm
        self._wake()

    def close(self) -> None:
        """End the calls of those who watch."""
        self._closed = True
        self._wake()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Answer:  # noqa: N802
        """The state of a name."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Health is known of {', '.join(sorted(self._names - {''}))}, and of all as ''.")
        return Answer(status=self._state(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> AsyncGenerator[Answer, None]:  # noqa: N802
        """The state of a name, now and whenever it changes."""
        told = None
        while True:
            changed, state = self._changed, self._state(request.service)
            if state != told:
                told = state
                yield Answer(status=state)
            elif self._closed:
                return
            else:
                await changed.wait()

    def _state(self, name: str) -> int:
        if name not in self._names:
            return Answer.SERVICE_UNKNOWN
        return Answer.SERVING if self._serving and self._warm.get(name, True) else Answer.NOT_SERVING

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

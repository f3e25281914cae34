"""Users over gRPC: ``locust -f load_tests/locust/grpc_users.py --class-picker``; see the folder's README."""

import os
import time
from collections.abc import Iterator
from typing import Any

import grpc
from grpc.experimental import gevent as grpc_gevent
from locust import User, between, task

from load_tests.locust import ending
from load_tests.locust.scenarios import FIRST_TOKEN, Ask, HighResolution, MixedTasks, OneImage, Scenario, Streaming
from load_tests.locust.thresholds import REFUSED
from service.bench.figures import REFUSALS
from service.bench.grpc_connection import OPTIONS, SERVICE, STATUSES, call
from service.transports.grpc.generated import paligemma_pb2 as pb

# Calls of grpcio would hold up all greenlets of the process.
grpc_gevent.init_gevent()

KEY = os.environ.get("PALISERVE_KEY")
PATIENCE = 60.0
"""Seconds."""

ending.listen()


class GrpcUser(Scenario, User):
    """Asks what its scenario says over a connection of its own."""

    abstract = True
    host = "127.0.0.1:8001"
    wait_time = between(0.1, 0.5)
    _asks: Iterator[Ask]
    _channel: grpc.Channel

    def on_start(self) -> None:
        """Of every user."""
        self._asks = self.asks()
        self._channel = grpc.insecure_channel(self.host, OPTIONS)

    def on_stop(self) -> None:
        """Of every user."""
        self._channel.close()

    @task
    def ask(self) -> None:
        """One call."""
        following = next(self._asks)
        ready = call(following.question, following.image)
        read: Any = getattr(pb, f"{ready.method}Response").FromString
        way: Any = self._channel.unary_stream if ready.streams else self._channel.unary_unary
        sending = way(SERVICE + ready.method, response_deserializer=read)
        metadata = (("authorization", f"Bearer {KEY}"),) if KEY else ()
        began, failure, length = time.perf_counter(), None, 0
        try:
            answer = sending(ready.message, timeout=PATIENCE, metadata=metadata)
            last = self._last(answer, began) if ready.streams else answer
            length = last.ByteSize()
            if not last.usage.prompt_tokens:
                failure = "the answer holds no result"
        except grpc.RpcError as error:
            failure = _failure(error)
        self._note(following.name, began, length, failure)

    def _last(self, events: Iterator[Any], began: float) -> Any:
        first = next(events)
        self._note(FIRST_TOKEN, began)
        return [first, *events][-1].result

    def _note(self, name: str, began: float, length: int = 0, failure: str | None = None) -> None:
        self.environment.events.request.fire(
            request_type="gRPC", name=name, response_time=1000 * (time.perf_counter() - began), response_length=length,
            exception=Exception(failure) if failure else None, context={},
        )  # fmt: skip


def _failure(error: Any) -> str:
    answered = any(name == "x-request-id" for name, _ in error.trailing_metadata() or ())
    if STATUSES.get(error.code(), 500) in REFUSALS and answered:
        return REFUSED
    return f"{error.code().name}: {error.details()}"


class GrpcMixedTasks(MixedTasks, GrpcUser):
    """See ``MixedTasks``."""


class GrpcOneImage(OneImage, GrpcUser):
    """See ``OneImage``."""


class GrpcHighResolution(HighResolution, GrpcUser):
    """See ``HighResolution``."""


class GrpcStreaming(Streaming, GrpcUser):
    """See ``Streaming``."""

"""Around every call: its visit, its errors as statuses, its one log line, its metrics."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from service.errors import PaliServeError
from service.observability.logs import request_id
from service.transports.budget import Budget, Hold
from service.transports.grpc.probes import PROBES, Probes
from service.transports.grpc.receiving import Deserializer, each, one
from service.transports.grpc.statuses import failure_of
from service.transports.visits import Visit, VisitBook, identity

logger = logging.getLogger(__name__)

QUIET = frozenset({"inference.GRPCInferenceService/ServerLive", "inference.GRPCInferenceService/ServerReady"})
"""Asked as often, but answered by us; logged only where debugging is on."""

LONGEST_SEND = 60.0
"""Seconds that a client may leave what was sent unread."""

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]

Receive = Callable[[AsyncIterator[bytes], Hold], Awaitable[Any]]
"""Gives what a behaviour takes."""

_visit: ContextVar[Visit] = ContextVar("visit")
_hold: ContextVar[Hold] = ContextVar("hold")


def current_visit() -> Visit:
    """The visit of the call that the running task answers."""
    return _visit.get()


def current_hold() -> Hold:
    """What the call that the running task answers holds."""
    return _hold.get()


class Calls(grpc.aio.ServerInterceptor):
    """What it wraps raises errors of the service's, or answers. A coroutine gives one answer; an async generator gives a stream of them.

    To the library every call sends a stream, so that there can be an end to how long its message may take. ``receive_seconds``: that end.
    """

    def __init__(self, book: VisitBook, budget: Budget, receive_seconds: float) -> None:
        self._book = book
        self._budget = budget
        self._receive_seconds = receive_seconds
        self._probes = Probes(receive_seconds)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """See ``ServerInterceptor``."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler_call_details.method.startswith(PROBES):
            return self._probes.limited(handler)  # type: ignore[no-any-return]
        sent = text_metadata(handler_call_details.invocation_metadata)
        wrap = _Call(self._book, self._budget, handler_call_details.method, sent).around
        coders = (None, handler.response_serializer)
        if handler.request_streaming:
            receive: Receive = partial(_stream, handler.request_deserializer)
            return grpc.stream_stream_rpc_method_handler(wrap(_streamed(handler.stream_stream), receive), *coders)
        receive = partial(one, handler.request_deserializer, self._receive_seconds)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(wrap(_streamed(handler.unary_stream), receive), *coders)
        return grpc.stream_unary_rpc_method_handler(wrap(handler.unary_unary, receive), *coders)


class _Call:
    """One call of a method, with the metadata that it was sent."""

    def __init__(self, book: VisitBook, budget: Budget, method: str, sent: dict[str, str]) -> None:
        self._book = book
        self._budget = budget
        # A handler was found for it, so it is no stranger's text.
        self._method = method.lstrip("/")
        self._sent = sent

    def around(self, behaviour: Behaviour, receive: Receive) -> Behaviour:
        """The same, as a visit. ``receive`` makes of what is sent what ``behaviour`` takes."""

        async def call(sent: Any, context: Context) -> Any:
            visit, status, began = Visit(), grpc.StatusCode.OK, time.monotonic()
            # A call has a task, and so a context, of its own: nothing has to be set back.
            _visit.set(visit)
            request_id.set(identity(self._sent.get("x-request-id", "")))
            trailers = (("x-request-id", request_id.get()),)
            context.set_trailing_metadata(trailers)
            try:
                with self._budget.hold() as hold:
                    _hold.set(hold)
                    return await behaviour(await receive(sent, hold), context)
            except asyncio.CancelledError:
                visit.code, status = "cancelled", grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                failure = failure_of(error)
                visit.code, status = failure.code, failure.status
                if not isinstance(error, PaliServeError):
                    logger.exception("unforeseen")
            finally:
                visit.seconds = time.monotonic() - began
                self._close(visit, status)
            return await context.abort(failure.status, failure.message, (*trailers, *failure.trailers()))

        return call

    def _close(self, visit: Visit, status: grpc.StatusCode) -> None:
        level = logging.ERROR if status is grpc.StatusCode.INTERNAL else logging.DEBUG if self._method in QUIET else logging.INFO
        try:
            self._book.close(visit, self._method, status.name, self._sent, level)
        except Exception:
            # The library would tell the client of it, in its own words.
            logger.exception("unforeseen")


def text_metadata(metadata: Any) -> dict[str, str]:
    """What a client sent beside its message, as far as that is text."""
    return {name: value for name, value in metadata or () if isinstance(value, str)}


async def _stream(deserialize: Deserializer, sent: AsyncIterator[bytes], _: Hold) -> AsyncGenerator[Message, None]:
    # Each message is held by whoever takes it.
    return each(deserialize, sent)


def _streamed(behaviour: Callable[[Any, Context], AsyncGenerator[Any, None]]) -> Behaviour:
    async def send_all(request: Any, context: Context) -> None:
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                try:
                    async with asyncio.timeout(LONGEST_SEND):
                        await context.write(response)
                except TimeoutError:
                    # It holds a stream for nothing, and would keep the server from stopping.
                    raise asyncio.CancelledError from None

    return send_all

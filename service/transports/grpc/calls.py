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

from service.access.gate import Caller, Gate
from service.access.quotas import Admission
from service.errors import PaliServeError
from service.observability.logs import request_id
from service.tasks.callers import working_for
from service.transports.budget import Budget, Hold
from service.transports.grpc.probes import Probes
from service.transports.grpc.receiving import Deserializer, each, one
from service.transports.grpc.statuses import failure_of
from service.transports.visits import AT_THE_GATE, Visit, VisitBook, identity

logger = logging.getLogger(__name__)

HEALTH, REFLECTION = "grpc.health.", "grpc.reflection."
"""Services of the library's own kind; their calls are no visits. Machines ask about health every few seconds, and need no key."""

PROBES = frozenset({"inference.GRPCInferenceService/ServerLive", "inference.GRPCInferenceService/ServerReady"})
"""Asked as often and as freely, but answered by us; logged only where debugging is on."""

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

    All methods but health's and the probes need a key that ``gate`` knows, where it wants one. To the library every call sends a stream, so
    that there can be an end to how long its message may take: ``receive_seconds``.
    """

    def __init__(self, book: VisitBook, gate: Gate, budget: Budget, receive_seconds: float) -> None:
        self._book = book
        self._gate = gate
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
        # A handler was found for it, so it is no stranger's text.
        method = handler_call_details.method.lstrip("/")
        if handler is None:
            return None
        if method.startswith(HEALTH):
            return self._probes.limited(handler)  # type: ignore[no-any-return]
        sent = text_metadata(handler_call_details.invocation_metadata)
        try:
            who = Caller() if method in PROBES else self._gate.identify(sent.get("authorization"))
        except PaliServeError as error:
            # A stream's handler, whatever the method is: it is called before a message is received.
            refusal = _Call(self._book, self._budget, method, sent, partial(_refuse, error))
            return grpc.stream_stream_rpc_method_handler(refusal.around(_nothing, _as_it_is))
        if method.startswith(REFLECTION):
            return self._probes.limited(handler)  # type: ignore[no-any-return]
        return self._around(handler, _Call(self._book, self._budget, method, sent, partial(self._gate.admit, who), who.name))

    def _around(self, handler: Any, call: "_Call") -> "grpc.RpcMethodHandler[Any, Any]":
        wrap = call.around
        coders = (None, handler.response_serializer)
        if handler.request_streaming:
            receive: Receive = partial(_stream, handler.request_deserializer)
            return grpc.stream_stream_rpc_method_handler(wrap(_streamed(handler.stream_stream), receive), *coders)
        receive = partial(one, handler.request_deserializer, self._receive_seconds)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(wrap(_streamed(handler.unary_stream), receive), *coders)
        return grpc.stream_unary_rpc_method_handler(wrap(handler.unary_unary, receive), *coders)


class _Call:
    """One call of a method, with the metadata that it was sent. ``admit`` counts it, or raises why it is not let in."""

    def __init__(
        self, book: VisitBook, budget: Budget, method: str, sent: dict[str, str], admit: Callable[[], Admission], caller: str = ""
    ) -> None:
        self._book = book
        self._budget = budget
        self._method = method
        self._sent = sent
        self._admit = admit
        self._caller = caller

    def around(self, behaviour: Behaviour, receive: Receive) -> Behaviour:
        """The same, as a visit. ``receive`` makes of what is sent what ``behaviour`` takes."""

        async def call(sent: Any, context: Context) -> Any:
            visit, status, began = Visit(caller=self._caller), grpc.StatusCode.OK, time.monotonic()
            # A call has a task, and so a context, of its own: nothing has to be set back.
            _visit.set(visit)
            request_id.set(identity(self._sent.get("x-request-id", "")))
            trailers = (("x-request-id", request_id.get()),)
            context.set_trailing_metadata(trailers)
            try:
                with self._admit() as admitted, working_for(self._caller, admitted), self._budget.hold() as hold:
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
            try:
                return await context.abort(failure.status, failure.message, (*trailers, *failure.trailers()))
            except grpc.aio.InternalError:
                # The client left meanwhile.
                raise asyncio.CancelledError from None

        return call

    def _close(self, visit: Visit, status: grpc.StatusCode) -> None:
        try:
            if visit.code in AT_THE_GATE and not visit.task:
                self._book.turn_away(visit)
                return
            level = logging.ERROR if status is grpc.StatusCode.INTERNAL else logging.DEBUG if self._method in PROBES else logging.INFO
            self._book.close(visit, self._method, status.name, self._sent, level)
        except Exception:
            # The library would tell the client of it, in its own words.
            logger.exception("unforeseen")


def _refuse(error: PaliServeError) -> Admission:
    raise error


async def _nothing(sent: Any, context: Context) -> None:
    """What is done for those who are not let in."""


async def _as_it_is(sent: AsyncIterator[bytes], _: Hold) -> AsyncIterator[bytes]:
    return sent


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
                except (TimeoutError, grpc.aio.InternalError):
                    # It does not read, and holds a stream for nothing, or it left meanwhile.
                    raise asyncio.CancelledError from None

    return send_all

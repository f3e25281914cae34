"""Health and reflection: calls of the library's own kind, asked every few seconds by machines. They are no visits, but they have limits."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from service.errors import Overloaded, PaliServeError
from service.transports.grpc.receiving import decoded, each, first
from service.transports.grpc.statuses import failure_of

MOST_STREAMS = 64
"""Of those who watch the health of something, or ask about services: each takes the place of a call for as long as it likes."""

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any

logger = logging.getLogger(__name__)


class Probes:
    """Limits what the library's servicers do not. ``seconds``: in which a message must have come."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._streams = 0

    def limited(self, handler: Handler) -> Handler:
        """The same handler, within the limits."""
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(handler), None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(self._unary(handler), None, handler.response_serializer)

    def _unary(self, handler: Handler) -> Any:
        async def call(sent: AsyncIterator[bytes], context: Context) -> Any:
            try:
                request = decoded(handler.request_deserializer, await first(sent, self._seconds))
                return await handler.unary_unary(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, error)

        return call

    def _stream(self, handler: Handler) -> Any:
        async def call(sent: AsyncIterator[bytes], context: Context) -> AsyncGenerator[Any, None]:
            if self._streams >= MOST_STREAMS:
                await _abort(context, Overloaded("Too many watch or ask about services: ask for the state once, or later.", 1.0))
            self._streams += 1
            try:
                async with aclosing(self._answers(handler, sent, context)) as answers:
                    async for answer in answers:
                        yield answer
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, error)
            finally:
                self._streams -= 1

        return call

    async def _answers(self, handler: Handler, sent: AsyncIterator[bytes], context: Context) -> AsyncGenerator[Any, None]:
        if handler.request_streaming:
            answers = handler.stream_stream(each(handler.request_deserializer, sent), context)
        else:
            answers = handler.unary_stream(decoded(handler.request_deserializer, await first(sent, self._seconds)), context)
        async with aclosing(answers):
            async for answer in answers:
                yield answer


async def _abort(context: Context, error: Exception) -> None:
    if not isinstance(error, PaliServeError):
        logger.exception("unforeseen")
    failure = failure_of(error)
    await context.abort(failure.status, failure.message)

"""``Batch``: the requests of one stream, answered together, each by itself."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from service.errors import Overloaded, PaliServeError
from service.observability.logs import request_id
from service.transports.grpc.calls import Context, current_hold, text_metadata
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.messages import WRITE, problem
from service.transports.grpc.questions import read, refused
from service.transports.grpc.receiving import unless_idle
from service.transports.grpc.statuses import failure_of
from service.transports.offers import OFFERS
from service.transports.ports import Service
from service.transports.visits import Visit, VisitBook

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 64
"""Requests of one stream that are not answered yet, or whose answers the client has not taken."""

LONGEST_IDLE = 300.0
"""Seconds that a stream may last on which nothing is asked and nothing is to be answered: it takes the place of a call."""

LONGEST_ID = 256
"""Characters."""


class Batch:
    """One stream of requests."""

    def __init__(self, service: Service, book: VisitBook, context: Context) -> None:
        self._service = service
        self._book = book
        self._context = context
        self._sent = text_metadata(context.invocation_metadata())
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._answers: asyncio.Queue[pb.BatchResponse | None] = asyncio.Queue()
        self._image = b""
        self._hold = current_hold()
        self._unanswered = 0

    async def answers(self, requests: AsyncIterator[pb.BatchRequest]) -> AsyncGenerator[pb.BatchResponse, None]:
        """Answers as they finish. Closing the generator ends all that was asked."""
        reading = asyncio.create_task(self._read(requests))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
                self._room.release()
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.BatchRequest]) -> None:
        number = 0
        try:
            async with asyncio.TaskGroup() as group:
                await self._room.acquire()
                async for request in unless_idle(requests, LONGEST_IDLE, lambda: not self._unanswered):
                    try:
                        image: bytes | Overloaded = self._image_of(request)
                    except Overloaded as error:
                        image = error
                    group.create_task(self._answer(request, image, number))
                    self._unanswered += 1
                    number += 1
                    await self._room.acquire()
        except ExceptionGroup as group:
            # Tasks raise nothing: it is about the stream itself.
            raise group.exceptions[0] from None
        finally:
            self._answers.put_nowait(None)

    def _image_of(self, request: pb.BatchRequest) -> bytes:
        """Its own or the last one's. The same object for all that share it: by that the engine knows that they are one picture."""
        kind = request.WhichOneof("task")
        if kind is not None:
            inner = getattr(request, kind)
            if image := inner.image or (inner.images[0] if inner.images else b""):
                # The stream holds it beside its request: others may come that share it.
                self._hold.give(len(self._image))
                self._image = b""
                self._hold.take(len(image))
                self._image = image
        return self._image

    async def _answer(self, request: pb.BatchRequest, image: bytes | Overloaded, number: int) -> None:
        # A task has a context of its own: this is the request's id, in its response and in the log.
        request_id.set(f"{request_id.get()}-{number}")
        visit, began, size = Visit("batch", "cancelled"), time.monotonic(), request.ByteSize()
        try:
            if isinstance(image, Overloaded):
                raise image
            with self._hold.more(size):
                answer = await self._outcome(request, image, visit)
            visit.code = "ok"
        except Exception as error:
            if not isinstance(error, PaliServeError):
                logger.exception("unforeseen")
            failure = failure_of(error)
            visit.code = failure.code
            answer = {"error": problem(failure)}
        finally:
            visit.seconds = time.monotonic() - began
            self._book.close_part(visit, self._sent)
        self._unanswered -= 1
        self._answers.put_nowait(pb.BatchResponse(id=request.id[:LONGEST_ID], **answer))

    async def _outcome(self, request: pb.BatchRequest, image: bytes, visit: Visit) -> dict[str, Any]:
        self._service.ready()
        kind = request.WhichOneof("task")
        if kind is None:
            raise refused("task", f"one of {', '.join(name.replace('-', '_') for name in OFFERS)} is needed")
        if len(request.id) > LONGEST_ID:
            raise refused("id", f"at most {LONGEST_ID} characters are taken")
        visit.task = kind.replace("_", "-")
        inner = getattr(request, kind)
        if not inner.images:
            inner.ClearField("image")
        result = await read(visit.task, inner, self._context.time_remaining(), image).ask(self._service.tasks)
        visit.answer = result.answer
        return {kind: WRITE[visit.task](result, request_id.get())}

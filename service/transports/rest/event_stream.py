"""An answer as server-sent events: whatever their dialect, how they begin, how they end, and what becomes of errors."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import PaliServeError
from service.tasks.streaming import Event, QuietEvent, ResultEvent
from service.transports.rest import problems
from service.transports.rest.visits import visit_of, while_connected
from service.transports.visits import Visit

logger = logging.getLogger(__name__)

HEARTBEAT = 15.0
"""Seconds without an event after which a comment says that the connection lives: proxies close silent ones."""

LONGEST_SEND = 60.0
"""Seconds that a client may leave what was sent unread."""

MEDIA_TYPE = "text/event-stream"
_HEADERS = {"content-type": MEDIA_TYPE, "cache-control": "no-store", "x-accel-buffering": "no"}
"""No proxy is to keep the events, nor to hold them back. The media type takes no charset: it is always UTF-8."""
_COMMENT = b": still at work\n\n"


class Dialect(Protocol):
    """How one interface writes events."""

    def write(self, event: Event) -> bytes:
        """Server-sent events, or nothing where the interface has no word for the event."""
        ...

    def write_error(self, document: dict[str, Any]) -> bytes:
        """What ends a stream that had begun. ``document``: see ``problems.document``."""
        ...


class EventStream(Response):
    """Sends a task's events as they come.

    Nothing is sent before the first event, or the first silence: what is wrong before that is answered with its own status. A client that
    goes away ends the task.
    """

    def __init__(self, events: AsyncGenerator[Event, None], dialect: Dialect) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._dialect = dialect
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it. Errors: ClientDisconnect; before the first byte those of the task."""
        request = Request(scope, receive)
        await while_connected(request, self._run(visit_of(request), scope["path"], send))

    async def _run(self, visit: Visit, path: str, send: Send) -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if isinstance(event, ResultEvent):
                        visit.answer = event.result.answer
                    await self._send(send, _COMMENT if isinstance(event, QuietEvent) else self._dialect.write(event))
        except ClientDisconnect:
            raise
        except Exception as error:
            if not self._begun:
                raise
            document = problems.document(error, path)
            visit.code = document["code"]
            if not isinstance(error, PaliServeError):
                logger.exception("unforeseen")
            await self._send(send, self._dialect.write_error(document))
        await self._send(send, b"", last=True)

    async def _send(self, send: Send, data: bytes, last: bool = False) -> None:
        if not data and not last:
            return
        try:
            async with asyncio.timeout(LONGEST_SEND):
                if not self._begun:
                    self._begun = True
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": data, "more_body": not last})
        except TimeoutError:
            # It holds a connection for nothing, and would keep the server from stopping.
            raise ClientDisconnect from None

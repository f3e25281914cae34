"""What stands outermost: counts what a request holds; an answer given before all was read, or the last one, reaches the client."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.transports.budget import Budget
from service.transports.rest.receipts import Receipt, receipt_of

HELD = "held"
"""Where in the state of a request's scope its ``Hold`` is."""

MOST_DRAINED = 64_000_000
"""Bytes of a body that are read away behind an early answer."""

MOST_SKIPPED = 1_000_000
"""Bytes of a body for which it is not worth closing a connection."""

LONGEST_DRAIN = 5.0
"""Seconds that this may take."""

CLOSE = (b"connection", b"close")


class Holding:
    """ASGI middleware: what a request holds of the process' memory is counted until the request ends."""

    def __init__(self, app: ASGIApp, budget: Budget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        with self._budget.hold() as hold:
            scope.setdefault("state", {})[HELD] = hold
            await self._app(scope, receive, send)


class Lingering:
    """ASGI middleware: answers first, then reads a bounded rest of the body away, then lets the connection close.

    A connection that is closed while bytes wait unread is reset, and the reset destroys the answer on its way to a client that sends
    all before it reads: RFC 9112, section 9.6.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or (_goes_on(scope) and _is_skipped(Headers(scope=scope))):
            await self._app(scope, receive, send)
            return
        unread, owed = _announces_body(Headers(scope=scope)), False
        receipt = receipt_of(scope)

        async def receive_noted() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def send_held(message: Message) -> None:
            nonlocal owed
            if unread and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            elif unread and not message.get("more_body", False):
                # The server closes after the last message: that one waits until the body is out of the way.
                owed = True
                message = {**message, "more_body": True}
            await send(message)

        await self._app(scope, receive_noted, send_held)
        if owed:
            await _drain(receive, receipt)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Parting:
    """ASGI middleware: while the process stops, each answer says that its connection ends with it.

    A client that is not told sends its next request into a connection that closes under it, and cannot know whether it was read.
    """

    def __init__(self, app: ASGIApp, leaving: Callable[[], bool]) -> None:
        self._app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start" and self._leaving():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        if scope["type"] == "http" and self._leaving():
            # As if its client had asked for it: what is read away before a connection closes, is.
            scope = {**scope, "headers": [*scope["headers"], CLOSE]}
        await self._app(scope, receive, send_told if scope["type"] == "http" else send)


def _goes_on(scope: Scope) -> bool:
    """Whether the connection may be used again."""
    return scope.get("http_version") != "1.0" and "close" not in Headers(scope=scope).get("connection", "").lower()


def _is_skipped(headers: Headers) -> bool:
    """Whether the connection may skip the body behind an answer, and is then good for another request."""
    length = headers.get("content-length", "")
    return "transfer-encoding" not in headers and length.isdecimal() and len(length) < 10 and int(length) <= MOST_SKIPPED


def _announces_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _drain(receive: Receive, receipt: Receipt) -> None:
    drained, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_DRAIN):
            while more and drained < MOST_DRAINED and receipt.problem is None:
                message = await receive()
                drained += len(message.get("body", b""))
                more = message.get("more_body", False)

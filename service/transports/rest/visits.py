"""Visits over HTTP: where each begins and ends, and what to do when the client goes away."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import PaliServeError
from service.observability.logs import request_id
from service.tasks.callers import caller
from service.transports.rest import problems
from service.transports.rest.playground.files import PARTS
from service.transports.visits import Visit, VisitBook, identity

logger = logging.getLogger(__name__)

QUIET = PARTS | {"/livez", "/readyz", "/startupz", "/metrics", "/v2/health/live", "/v2/health/ready"}
"""Asked by machines, some every few seconds; logged only where debugging is on."""

CLIENT_LEFT = 499
T = TypeVar("T")


def visit_of(request: Request) -> Visit:
    """The visit that ``Visits`` opened for this request."""
    visit: Visit = request.scope["state"]["visit"]
    return visit


async def refuse(error: PaliServeError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that is not let in, and so is no visit."""
    await refusal(error, scope["path"], Headers(scope=scope).get("x-request-id", ""))(scope, receive, send)


def refusal(error: PaliServeError, path: str, asked_id: str) -> Response:
    """The answer to a request that is not let in. ``asked_id``: as which it wants to be known."""
    token = request_id.set(identity(asked_id))
    try:
        answer = problems.of_error(error, path)
        answer.headers["x-request-id"] = request_id.get()
        return answer
    finally:
        request_id.reset(token)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """``work``'s result; cancelled when the client goes away. Errors: ClientDisconnect. The body must have been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for each in (working, leaving):
            each.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Visits:
    """ASGI middleware around the routes: opens a visit, answers what nobody caught, closes with one log line and the metrics."""

    def __init__(self, app: ASGIApp, book: VisitBook) -> None:
        self._app = app
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(caller=caller.get())
        scope.setdefault("state", {})["visit"] = visit
        token = request_id.set(identity(Headers(scope=scope).get("x-request-id", "")))
        began, status = time.monotonic(), 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id.get()
            await send(message)

        try:
            try:
                await self._app(scope, receive, send_marked)
            except ClientDisconnect:
                # What was sent already was sent, if only in part.
                status, visit.code = status or CLIENT_LEFT, "cancelled"
            except asyncio.CancelledError:
                visit.code, visit.seconds = "cancelled", time.monotonic() - began
                self._close(scope, visit, status)
                raise
            except Exception:
                visit.code = "internal"
                logger.exception("unforeseen")
                if not status:
                    await problems.internal(scope["path"])(scope, receive, send_marked)
            visit.seconds = time.monotonic() - began
            self._close(scope, visit, status)
        finally:
            request_id.reset(token)

    def _close(self, scope: Scope, visit: Visit, status: int) -> None:
        # The route's template: a path as sent is a stranger's text.
        route = getattr(scope.get("route"), "path", "(other path)")
        level = logging.ERROR if status == 500 else logging.DEBUG if route in QUIET else logging.INFO
        self._book.close(visit, f"{_method(scope)} {route}", str(status), Headers(scope=scope), level)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "(other)"

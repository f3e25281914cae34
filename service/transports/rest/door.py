"""A full service says so before it reads a request, so that refusing costs next to nothing and those inside are served on."""

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Overloaded
from service.observability.logs import request_id
from service.transports.offers import OFFERS
from service.transports.ports import Service
from service.transports.rest import problems
from service.transports.visits import Visit, VisitBook, identity

TASKS = {f"/v1/{name}": name for name in OFFERS} | {"/v1/chat/completions": "chat"}

LEFT_UNREAD = 1_000_000
"""Bytes of a body that the connection skips, and is then good for another request. What is larger is refused by its route."""


class Door:
    """ASGI middleware: refuses a task with the answer that its route would give, when no place is free for anybody who asks."""

    def __init__(self, app: ASGIApp, service: Service, book: VisitBook) -> None:
        self._app = app
        self._service = service
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        task = TASKS.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if task is None:
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        try:
            self._service.check_room()
        except Overloaded as error:
            headers = Headers(scope=scope)
            if _is_skipped(headers):
                token = request_id.set(identity(headers.get("x-request-id", "")))
                try:
                    answer = problems.of_error(error, scope["path"])
                    answer.headers["x-request-id"] = request_id.get()
                    await answer(scope, receive, send)
                finally:
                    request_id.reset(token)
                self._book.turn_away(Visit(task, "overloaded", seconds=time.monotonic() - began))
                return
        await self._app(scope, receive, send)


def _is_skipped(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= LEFT_UNREAD

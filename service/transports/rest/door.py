"""A full service says so before it reads a request, so that refusing costs little beside answering."""

import re
import time
from contextlib import ExitStack

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Overloaded
from service.tasks.callers import caller
from service.transports.offers import OFFERS
from service.transports.ports import Service
from service.transports.rest.visits import refuse
from service.transports.visits import Visit, VisitBook

TASKS = {f"/v1/{name}": name for name in OFFERS} | {"/v1/chat/completions": "chat", "/v1/batch": "batch"}
INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")


class Door:
    """ASGI middleware: lets in as many as there is room for, and refuses others as their routes would."""

    def __init__(self, app: ASGIApp, service: Service, book: VisitBook) -> None:
        self._app = app
        self._service = service
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        task = task_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if task is None:
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        with ExitStack() as inside:
            try:
                inside.enter_context(self._service.room())
            except Overloaded as error:
                await refuse(error, scope, receive, send)
                self._book.turn_away(Visit(task, "overloaded", seconds=time.monotonic() - began, caller=caller.get()))
            else:
                await self._app(scope, receive, send)


def task_of(method: str, path: str) -> str | None:
    """What is asked for that takes a place."""
    if method != "POST":
        return None
    return TASKS.get(path) or ("infer" if INFER.fullmatch(path) else None)

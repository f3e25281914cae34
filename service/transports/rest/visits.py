"""One visit of a client: its id, its one log line, its metrics; and what to do when it goes away."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.logs import request_id
from service.observability.metrics import Metrics
from service.tasks.results import Answer
from service.transports.rest import problems

logger = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Asked every few seconds by machines; logged only where debugging is on."""

CLIENT_LEFT = 499
T = TypeVar("T")


@dataclass(slots=True)
class Visit:
    """What the routes and the error handlers tell about the request. ``task`` is empty where none was asked.

    ``parts`` are the requests that were made in one: where there are some they are counted, each by its own ``seconds``, and not the whole.
    """

    task: str = ""
    code: str = "ok"
    answer: Answer | None = None
    seconds: float = 0.0
    parts: list["Visit"] = field(default_factory=list)


def visit_of(request: Request) -> Visit:
    """The visit that ``VisitBook`` opened for this request."""
    visit: Visit = request.scope["state"]["visit"]
    return visit


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


class VisitBook:
    """ASGI middleware around everything: opens a visit, answers what nobody caught, closes with one log line and the metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit()
        scope.setdefault("state", {})["visit"] = visit
        asked = Headers(scope=scope).get("x-request-id", "")
        token = request_id.set(asked if SANE_ID.fullmatch(asked) else uuid.uuid4().hex)
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
        trace = TRACE_PARENT.fullmatch(Headers(scope=scope).get("traceparent", ""))
        level = logging.ERROR if status == 500 else logging.DEBUG if route in QUIET else logging.INFO
        told = (_method(scope), route, status, visit.code, 1000 * visit.seconds, f" trace {trace[1]}" if trace else "")
        logger.log(level, "%s %s %d %s %.1f ms%s", *told)
        for each in visit.parts or [visit]:
            self._count(each)

    def _count(self, visit: Visit) -> None:
        if not visit.task:
            return
        answer = visit.answer
        self._metrics.request_ended(visit.task, visit.code, "rest", visit.seconds, answer.model if answer else "_other")
        if answer:
            timings, usage = answer.timings, answer.usage
            self._metrics.stages_took({name: getattr(timings, name) for name in ("queue", "preprocess", "vision", "prefill", "decode")})
            self._metrics.tokens_used(answer.model, usage.image_tokens, usage.prompt_tokens, usage.completion_tokens)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "(other)"

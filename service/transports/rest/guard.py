"""Who gets to the routes: everybody to a named few, to all others who has a key, or needs none."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.gate import Caller, Gate
from service.errors import PaliServeError
from service.tasks.callers import working_for
from service.transports.rest import problems
from service.transports.rest.playground.files import PATHS
from service.transports.rest.visits import refuse
from service.transports.visits import Visit, VisitBook

PROBES = frozenset({"/livez", "/readyz", "/startupz", "/v2/health/live", "/v2/health/ready"})
OPEN = PROBES | PATHS | {"/docs", "/openapi.json", "/metrics"}
"""Paths, letter for letter as routes have them, that need no key. Whatever is not here needs one, whether there is such a route or not."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may reach an application. ``allowed_hosts``: names that it is asked under, None: any. ``cors_origins``: sites whose pages may."""

    gate: Gate = field(default_factory=Gate)
    allowed_hosts: tuple[str, ...] | None = None
    cors_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offered:
    """What an application offers beside its probes. ``upkeep``: metrics, documentation, loading and unloading.

    The ``playground`` is where the tasks are. ``grpc_port``: where it says that gRPC is; 0: nowhere.
    """

    tasks: bool = True
    upkeep: bool = True
    docs: bool = True
    playground: bool = True
    grpc_port: int = 0


class Guard:
    """ASGI middleware around all routes: identifies the caller, counts the visit, and lets those who share something know whose it is.

    It asks before anything of the body is read. Of the path it takes what the routes take, never a URL with the caller's ``Host`` in it.
    """

    def __init__(self, app: ASGIApp, gate: Gate, book: VisitBook) -> None:
        self._app = app
        self._gate = gate
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN):
            await self._app(scope, receive, send)
            return
        who = Caller()
        try:
            who = self._gate.identify(Headers(scope=scope).get("authorization"))
            admitted = self._gate.admit(who)
        except PaliServeError as error:
            await refuse(error, scope, receive, send)
            self._book.turn_away(Visit(code=problems.TABLE[type(error)].code, caller=who.name))
            return
        scope.setdefault("state", {})["caller"] = who
        with admitted, working_for(who.name, admitted):
            await self._app(scope, receive, send)


def administrators(gate: Gate) -> Callable[[Request], None]:
    """Lets only those through, behind the guard."""

    def check(request: Request) -> None:
        who: Caller = request.scope["state"]["caller"]
        gate.administrator(who)

    return check

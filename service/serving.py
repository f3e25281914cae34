"""The process that serves: start, listen, drain, stop."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from service import bounds
from service.access.certificates import newest_context
from service.access.watched import keep_looking
from service.engine.worker import freeze
from service.instances.keeper import State
from service.listening import Doors, ServingError, bind
from service.machine import give_back_large_blocks
from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn, Spans, Tracing
from service.observability.version import build, package_version
from service.settings import Settings
from service.transports.budget import Budget
from service.transports.grpc.server import GrpcServer, Limits
from service.transports.rest.application import create_application, split_by_port
from service.transports.rest.connections import Connections
from service.transports.rest.guard import Offered
from service.transports.rest.middleware import Parting
from service.transports.rest.turnstile import Turnstile
from service.transports.visits import VisitBook
from service.wiring import Begin, PaliServe

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 16
"""The event loop accepts one connection for each listening socket in each of its turns. With only one socket, new clients of a busy server
wait for seconds, before any limit or deadline of ours sees them, while those who stay connected are served."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which another thread may keep the event loop from running Python; Python's own choice is 0.005."""

HANDSHAKE_SECONDS = 10.0
"""That a client may take to agree on TLS."""

GOODBYE_SECONDS = 5.0
"""That a client may take to answer when TLS ends; those who are idle never do, and the process could not stop."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)

QUIET_TURNS, MOST_TURNS = 3, 30
"""Turns of the server's loop, a tenth of a second each: so many without a request pass before the door is closed, and no more in all."""

STEP_ASIDE = 0.2
"""Seconds between the closing of the door and that of idle connections: who was on the way in is still told to go elsewhere."""


class HttpServer(uvicorn.Server):
    """Drains on the first SIGINT or SIGTERM: accepted requests finish. Stops at once on the second. Returns normally either way."""

    def __init__(self, config: uvicorn.Config, service: PaliServe, grpc_server: GrpcServer | None) -> None:
        super().__init__(config)
        self._service = service
        self._grpc_server = grpc_server
        self._accepted: set[asyncio.Task[None]] = set()
        self._answered = 0
        self._quiet_turns = 0
        self._turns = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's own, which raises the signal again after a clean stop and so ends the process with a failure."""
        event_loop = asyncio.get_running_loop()
        for number in SIGNALS:
            event_loop.add_signal_handler(number, self._asked_to_stop)
        yield
        for number in SIGNALS:
            event_loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, with limits on the time that TLS takes to begin and to end."""
        await super().startup(sockets=[])
        config, event_loop = self.config, asyncio.get_running_loop()

        def accept() -> asyncio.Protocol:
            protocol: Any = config.http_protocol_class
            return cast("asyncio.Protocol", protocol(config=config, server_state=self.server_state, app_state=self.lifespan.state))

        hello, goodbye = (HANDSHAKE_SECONDS, GOODBYE_SECONDS) if config.ssl else (None, None)
        for each in sockets or []:
            listening = event_loop.create_server(
                accept, sock=each, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=hello, ssl_shutdown_timeout=goodbye
            )
            self.servers.append(await listening)

    async def on_tick(self, counter: int) -> bool:
        """Close the door only when all is done: connections that wait at a closed door are reset, here they are told to go elsewhere."""
        # Who comes later is refused, and however slowly such a one leaves, the next has come by then: only the accepted are waited for.
        self._accepted &= self.server_state.tasks
        if self._service.draining and self._service.idle() and not self._accepted:
            self._turns += 1
            self._quiet_turns = self._quiet_turns + 1 if self.server_state.total_requests == self._answered else 0
            self._answered = self.server_state.total_requests
            if not self.server_state.connections or self._quiet_turns >= QUIET_TURNS or self._turns >= MOST_TURNS:
                self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's own closes the door and the idle connections in one moment, and so resets those who were on the way in."""
        if not self.force_exit:
            for server in self.servers:
                server.close()
            for each in sockets or []:
                each.close()
            if self.server_state.connections:
                await asyncio.sleep(STEP_ASIDE)
        await super().shutdown(sockets)
        if self.force_exit:
            # What runs ends as it does for clients who leave.
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    def _asked_to_stop(self) -> None:
        if self._service.draining:
            self.should_exit = self.force_exit = True
            return
        logger.info("stopping: finishing what was accepted")
        self._service.drain()
        self._accepted = set(self.server_state.tasks)
        if self._grpc_server:
            self._grpc_server.tell(serving=False)


async def serve(settings: Settings, doors: Doors | None = None, begin: Begin = lambda part, done, of: None) -> int:
    """Serve until told to stop; returns the exit status.

    ``doors``: those of the settings; ``begin``: who is told of the start. Errors: ServingError, CheckpointError.
    """
    doors = doors or Doors(settings)
    # Where models compute in this process too, they would pay for it.
    if settings.workers != 0:
        give_back_large_blocks()
    # Bound first: a port in use should not cost the time to load a model.
    listener = bind(settings.host, settings.port, "--port")
    admin = bind(settings.admin_host or settings.host, settings.admin_port, "admin_port") if settings.admin_port else None
    grpc_reserved = bind(settings.host, settings.grpc_port, "--grpc-port") if settings.grpc_port else None
    service = PaliServe(settings, Metrics(package_version(), **build()), begin)
    budget, tracing = bounds.budget(settings, service.metrics), _tracing(settings)
    limits = bounds.grpc_limits(settings, budget)
    grpc_server = await _start_grpc(service, settings, doors, grpc_reserved, tracing, limits) if grpc_reserved else None
    await service.start()
    freeze()
    sys.setswitchinterval(SWITCH_INTERVAL)
    application = _application(service, settings, doors, tracing, admin, budget)
    connections = bounds.connections(settings, service.metrics)
    book = VisitBook("rest", service.metrics, tracing)
    connections.entrance = Turnstile(service, doors.access, book, listener.getsockname()[1] if admin else None)
    config = _http(Parting(application, lambda: service.draining), doors, connections, settings.keep_alive_seconds)
    http_server = HttpServer(config, service, grpc_server)
    listeners = [listener, *([admin] if admin else [])]
    for each in listeners:
        each.listen(2048)
    if grpc_server:
        grpc_server.tell(serving=True)
    logger.info("serving %s on %s", ", ".join(each.name for each in service.models()), _where(settings, listeners))
    looking = asyncio.create_task(keep_looking(doors.watched))
    await http_server.serve(sockets=[*listeners, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))])
    looking.cancel()
    if grpc_server:
        await grpc_server.stop(at_once=http_server.force_exit)
    await service.stop()
    await asyncio.to_thread(tracing.stop)
    logger.info("stopped")
    return 0


def _application(
    service: PaliServe, settings: Settings, doors: Doors, tracing: Tracing, admin: socket.socket | None, budget: Budget
) -> ASGIApp:
    """All of it, or with a port for administrators the rest for the others."""

    def made(offered: Offered) -> ASGIApp:
        return create_application(service, service.metrics, settings.max_image_bytes, doors.access, tracing, offered, budget)

    offered = Offered(docs=settings.docs, playground=settings.playground, grpc_port=settings.grpc_port)
    if admin is None:
        return made(offered)
    return split_by_port(admin.getsockname()[1], made(replace(offered, tasks=False)), made(replace(offered, upkeep=False)))


def _http(application: ASGIApp, doors: Doors, connections: Connections, keep_alive: float) -> uvicorn.Config:
    """How HTTP is spoken."""
    certificates = doors.certificates
    return uvicorn.Config(
        application,
        # It is asked for a class, and calls it.
        http=cast("type[asyncio.Protocol]", connections.protocol),
        timeout_keep_alive=cast("int", keep_alive),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whatever X-Forwarded-For says, a client is who is connected.
        proxy_headers=False,
        ssl_context_factory=(lambda config, default: newest_context(certificates)) if certificates else None,
    )


def _where(settings: Settings, listeners: Sequence[socket.socket]) -> str:
    scheme = "https" if settings.tls_certificate else "http"
    public, *admin = ("{}://{}:{}".format(scheme, *each.getsockname()) for each in listeners)
    beside = f" and gRPC on {settings.host}:{settings.grpc_port}" if settings.grpc_port else ""
    return public + beside + "".join(f", for administrators on {each}" for each in admin)


def _tracing(settings: Settings) -> Tracing:
    if not settings.tracing:
        return PassedOn()
    try:
        return Spans(package_version())
    except ImportError:
        raise ServingError("tracing needs OpenTelemetry: pip install 'paliserve[tracing]'.") from None


async def _start_grpc(
    service: PaliServe, settings: Settings, doors: Doors, reserved: socket.socket, tracing: Tracing, limits: Limits
) -> GrpcServer:
    """Answers at once: that the models are being warmed up. ``reserved`` holds the port until the server does."""
    server = GrpcServer(service, service.metrics, limits, settings.grpc_reflection, package_version(), tracing, doors.gate)
    service.observe(lambda name, state: server.tell_of(name, state is State.WARM))
    with reserved:
        try:
            await server.start(settings.host, settings.grpc_port, doors.certificates)
        except OSError as error:
            raise ServingError(f"gRPC {error}. Give another port with --grpc-port, or 0 for none.") from None
    return server


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop: uvloop's where there is one, which is not on Windows."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)

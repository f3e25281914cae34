"""The process that serves: start, listen, drain, stop."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import uvicorn

from service.engine.worker import freeze
from service.errors import OperatorError
from service.observability.metrics import Metrics
from service.settings import Settings
from service.transports.rest.application import create_application, package_version
from service.wiring import PaliServe

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 16
"""The event loop accepts one connection for each listening socket in each of its turns. With only one socket, new clients of a busy server
wait for seconds, before any limit or deadline of ours sees them, while those who stay connected are served."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which another thread may keep the event loop from running Python; Python's own choice is 0.005."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ServingError(OperatorError):
    """The process cannot listen where it was told to."""


class HttpServer(uvicorn.Server):
    """Drains on the first SIGINT or SIGTERM: accepted requests finish. Stops at once on the second. Returns normally either way."""

    def __init__(self, config: uvicorn.Config, service: PaliServe) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replaces uvicorn's own, which raises the signal again after a clean stop and so ends the process with a failure."""
        event_loop = asyncio.get_running_loop()
        for number in SIGNALS:
            event_loop.add_signal_handler(number, self._asked_to_stop)
        yield
        for number in SIGNALS:
            event_loop.remove_signal_handler(number)

    async def on_tick(self, counter: int) -> bool:
        """Close the door only when all is done: connections that wait at a closed door are reset, here they are told to go elsewhere."""
        if self._service.draining and self._service.idle():
            self.should_exit = True
        return await super().on_tick(counter)

    def _asked_to_stop(self) -> None:
        if self._service.draining:
            self.should_exit = self.force_exit = True
            return
        logger.info("stopping: finishing what was accepted")
        self._service.drain()


async def serve(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status. Errors: ServingError, CheckpointError."""
    if settings.grpc_port:
        logger.warning("gRPC is not offered yet: nothing listens on port %d", settings.grpc_port)
    # Bound first: a port in use should not cost the time to load a model.
    listener = _bind(settings.host, settings.port)
    service = PaliServe(settings, Metrics(package_version()))
    await service.start()
    freeze()
    sys.setswitchinterval(SWITCH_INTERVAL)
    application = create_application(service, service.metrics, settings.max_image_bytes)
    # h11 bounds the size of headers; httptools, which uvicorn prefers, does not.
    config = uvicorn.Config(application, http="h11", ws="none", log_config=None, access_log=False, server_header=False)
    listener.listen(2048)
    host, port = listener.getsockname()[:2]
    logger.info("serving %s on http://%s:%d", ", ".join(each.name for each in service.models()), host, port)
    await HttpServer(config, service).serve(sockets=[listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))])
    await service.stop()
    logger.info("stopped")
    return 0


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop: uvloop's where there is one, which is not on Windows."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol named, because asyncio turns Nagle's delay off for such sockets only: answers would wait 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise ServingError(f"cannot listen on {host}:{port}: {error.strerror}. Give another one with --host and --port.") from None
    listener.set_inheritable(True)
    return listener

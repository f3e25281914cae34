"""What clients may take of the process: connections, bytes, and time."""

import logging

from service.machine import memory_bytes, open_files
from service.observability.metrics import Metrics
from service.settings import Settings
from service.transports.budget import Budget
from service.transports.grpc.server import Limits
from service.transports.rest.bodies import largest_body
from service.transports.rest.connections import ConnectionLimits, Connections
from service.transports.rest.receipts import Times

logger = logging.getLogger(__name__)

MESSAGE_OVERHEAD = 1_000_000
"""Bytes that a message of gRPC may have beside its image."""

OTHER_FILES = 512
"""Files that the process may have open beside the connections of its HTTP port: connections of gRPC, pipes of workers, checkpoints."""

GRPC_CONNECTIONS = 384
"""Of these files. Without an end to them, clients of gRPC that ask nothing, and need no key for that, take the files of all others."""


def connections(settings: Settings, metrics: Metrics) -> Connections:
    """The connections of the HTTP port: as many as are wanted, and as the process may open files for."""
    files = open_files(settings.max_connections + OTHER_FILES)
    at_once = min(settings.max_connections, max(1, files - OTHER_FILES))
    if at_once < settings.max_connections:
        logger.warning("the process may open %d files: %d connections are served at once, not %d", files, at_once, settings.max_connections)
    rate = settings.slowest_bytes_per_second
    times = Times(settings.receive_head_seconds, settings.receive_body_seconds, settings.send_seconds, rate)
    return Connections(ConnectionLimits(at_once, settings.max_connections_per_address, times), metrics)


def budget(settings: Settings, metrics: Metrics) -> Budget:
    """The bytes of all requests together: an eighth of the memory, as reading one takes some four times its bytes."""
    least = 4 * max(largest_body(settings.max_image_bytes), _message_bytes(settings))
    most = settings.max_held_bytes or max(least, memory_bytes() // 8)
    made = Budget(most, lambda: metrics.request_refused("memory_full"))
    metrics.holding(lambda: made.held, most)
    return made


def grpc_limits(settings: Settings, shared: Budget) -> Limits:
    """What a client may ask of the gRPC server. ``shared``: the budget of both transports."""
    return Limits(
        message_bytes=_message_bytes(settings),
        calls=settings.grpc_max_calls,
        calls_per_connection=settings.grpc_calls_per_connection,
        keepalive=settings.grpc_keepalive_seconds,
        keepalive_timeout=settings.grpc_keepalive_timeout_seconds,
        ping_interval=settings.grpc_ping_interval_seconds,
        connection_age=settings.grpc_connection_age_seconds,
        receive=settings.grpc_receive_seconds,
        connections=GRPC_CONNECTIONS,
        budget=shared,
    )


def _message_bytes(settings: Settings) -> int:
    # Twice what an image may have, so that one somewhat too large is told so, by name.
    return settings.grpc_max_message_bytes or 2 * settings.max_image_bytes + MESSAGE_OVERHEAD

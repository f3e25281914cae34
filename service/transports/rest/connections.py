"""The connections of the HTTP port: how many there may be, and how long they may take."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from service.observability.metrics import Metrics
from service.transports.rest.protocol import Entrance, TimedProtocol
from service.transports.rest.receipts import Times

WHOLE_NETWORK = 64
"""Bits of an IPv6 address that its holder cannot choose."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """``at_once`` connections are served, and ``of_address`` of one peer; 0 stands for any number."""

    at_once: int
    of_address: int
    times: Times


class Connections:
    """Makes the protocol of each connection, and counts them.

    A peer is an address as the socket tells it: headers such as X-Forwarded-For are written by anybody. So a proxy is one peer, with all
    who come through it. ``entrance``: who refuses requests before they are read.
    """

    def __init__(self, limits: ConnectionLimits, metrics: Metrics) -> None:
        self.entrance: Entrance | None = None
        self._limits = limits
        self._metrics = metrics
        self._of_peer: Counter[str] = Counter()
        self._open = 0

    def protocol(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> TimedProtocol:
        """What ``uvicorn.Config`` takes as ``http``."""
        return TimedProtocol(self, self.entrance, self._limits.times, config, server_state, app_state, _loop)

    def enter(self, address: str) -> bool:
        """Whether one more is served."""
        peer, limits = _peer(address), self._limits
        if limits.at_once and self._open >= limits.at_once:
            self.cut("too_many")
            return False
        if limits.of_address and self._of_peer[peer] >= limits.of_address:
            self.cut("too_many_of_one")
            return False
        self._of_peer[peer] += 1
        self._count(1)
        return True

    def leave(self, address: str) -> None:
        """A connection that was served is gone."""
        peer = _peer(address)
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer]
        self._count(-1)

    def cut(self, reason: str) -> None:
        """A connection was not served, or ends for one of ``metrics.CUTS``."""
        self._metrics.connection_cut(reason)

    def _count(self, change: int) -> None:
        self._open += change
        self._metrics.connections_changed(self._open)


def _peer(address: str) -> str:
    """The address, or the network that one holder of an IPv6 address has."""
    if ":" not in address:
        return address
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> (128 - WHOLE_NETWORK) << (128 - WHOLE_NETWORK)))

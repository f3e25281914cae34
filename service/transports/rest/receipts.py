"""How a request is received: within which times, and whether it will ever be whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import PaliServeError

RECEIPT = "receipt"
"""Where in the state of a request's scope its ``Receipt`` is."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a client has.

    In ``head`` it must have sent the head of a request, counted from the connection's beginning or, where it is kept alive, from the first
    byte; in ``body`` the body behind it; in ``send`` it must have read what it is sent. The latter two are longer by the bytes that did
    come, or wait to be read, at ``rate`` a second.
    """

    head: float
    body: float
    send: float
    rate: int


@dataclass(slots=True)
class Receipt:
    """How a connection's request is being received. ``problem``: why it will never be whole."""

    problem: PaliServeError | None = None


def receipt_of(scope: Mapping[str, Any]) -> Receipt:
    """How a request is being received; it will be whole where the server behind it is not this one."""
    receipt: Receipt = scope.get("state", {}).get(RECEIPT) or Receipt()
    return receipt

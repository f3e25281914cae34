"""What the OpenAPI document tells of keys: where they are needed, and what is answered without one."""

from typing import Any

from service.transports.rest.guard import OPEN, PROBES

_SCHEME = {"type": "http", "scheme": "bearer", "description": "A key that the operator gave; none is needed where the operator says so."}


def at_the_door(path: str) -> frozenset[str]:
    """Codes of the problems that a path answers whatever it does."""
    if path in PROBES:
        return frozenset()
    return frozenset({"misdirected_request"} if path in OPEN else {"misdirected_request", "unauthenticated", "rate_limited"})


def tell_of_keys(document: dict[str, Any]) -> None:
    """Put the scheme into a document, and onto each operation that asks for a key."""
    document["components"]["securitySchemes"] = {"key": _SCHEME}
    for path, operations in document["paths"].items():
        if path not in OPEN:
            for operation in operations.values():
                operation["security"] = [{"key": []}, {}]

"""Tensors of bytes, and how they are written as one piece of bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from service.errors import FieldProblem, InvalidRequest

BYTES = "BYTES"
LENGTH = 4
"""Bytes before each element that tell its length, the least significant first."""

MOST_ELEMENTS = 64
MOST_SIDES = 2


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of bytes."""

    name: str
    shape: tuple[int, ...]
    elements: tuple[bytes, ...]


def pack(elements: Sequence[bytes]) -> bytes:
    """The elements in order, each with its length before it."""
    return b"".join(part for element in elements for part in (len(element).to_bytes(LENGTH, "little"), element))


def unpack(name: str, packed: bytes) -> list[bytes]:
    """The elements again. Errors: InvalidRequest."""
    elements: list[bytes] = []
    at = 0
    while at < len(packed):
        start = at + LENGTH
        at = start + int.from_bytes(packed[at:start], "little")
        if start > len(packed) or at > len(packed):
            raise refused(name, "the bytes end within an element: each has its length before it, in four bytes, least significant first")
        if len(elements) == MOST_ELEMENTS:
            raise refused(name, f"at most {MOST_ELEMENTS} elements are taken")
        elements.append(packed[start:at])
    return elements


def check(name: str, datatype: str, shape: Sequence[int], elements: Sequence[bytes]) -> Tensor:
    """A tensor whose parts fit one another. Errors: InvalidRequest."""
    if datatype != BYTES:
        raise refused(name, f"the datatype must be {BYTES}")
    sides = tuple(shape)
    if not 1 <= len(sides) <= MOST_SIDES or any(not 0 < side <= MOST_ELEMENTS for side in sides) or sides[1:] not in ((), (1,)):
        raise refused(name, f"the shape must be [n] or [n, 1] with n = 1..{MOST_ELEMENTS}")
    if prod(sides) != len(elements):
        raise refused(name, f"the shape says {prod(sides)} elements, and there are {len(elements)}")
    return Tensor(name, sides, tuple(elements))


def refused(name: str, problem: str) -> InvalidRequest:
    """The error for what is wrong with one part of a request."""
    field = f"inputs.{name}"[:100]
    return InvalidRequest(f"{field}: {problem}.", (FieldProblem(field, problem),))

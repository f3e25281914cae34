"""What a constrained generation may write next: the interface between a task's grammar and the runner that masks tokens by it."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Allowed:
    """The token ids that may come next: those in the half-open ``ranges`` (at most two), and ``others`` besides.

    Where the answer may end, the end tokens are among ``others``.
    """

    ranges: tuple[tuple[int, int], ...]
    others: tuple[int, ...]


class Grammar(Protocol):
    """An automaton over token ids. States are small integers, 0 is the start; it may be shared by requests and asked in any order."""

    def allowed(self, state: int) -> Allowed:
        """Never empty. The same object for the same state."""
        ...

    def advance(self, state: int, token: int) -> int:
        """The state after ``token``, which is one of those allowed."""
        ...

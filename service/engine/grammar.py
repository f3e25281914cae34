"""What may be written next: the automata that constrain decoding, as the engine sees them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Allowed:
    """The token ids that may come next.

    They are those in the half-open ``ranges`` (at most two), and ``others`` besides, end tokens included where the answer may end.
    """

    ranges: tuple[tuple[int, int], ...]
    others: tuple[int, ...]


class Grammar(Protocol):
    """An automaton over token ids. States are small ints, 0 is the start.

    An instance may be shared by rows and threads, and asked again in any order.
    """

    def allowed(self, state: int) -> Allowed:
        """Give the tokens that may come in ``state``: never none. Computed once for each state."""
        ...

    def advance(self, state: int, token: int) -> int:
        """Give the state after ``token``. An end token leaves the state as it is. Errors: ValueError where it is not allowed."""
        ...

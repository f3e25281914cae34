"""What a grammar needs to know of a checkpoint's tokens."""

from collections.abc import Iterable

from service.engine.grammar import Allowed


class Lexicon:
    """The location, segmentation and end tokens of a checkpoint, and its ordinary tokens by the bytes they write.

    ``pieces`` are (id, bytes) of every token that may stand in a text. End tokens and pieces of no bytes among them are passed over.
    ``longest`` is the number of bytes of the longest piece. ``text`` allows every piece and the end tokens.
    """

    def __init__(
        self, first_location: int, first_segmentation: int, end_tokens: Iterable[int], pieces: Iterable[tuple[int, bytes]]
    ) -> None:
        self.first_location = first_location
        self.first_segmentation = first_segmentation
        self.end_tokens = tuple(sorted(set(end_tokens)))
        self._ids: dict[bytes, tuple[int, ...]] = {}
        ends = frozenset(self.end_tokens)
        for token, piece in pieces:
            if piece and token not in ends:
                self._ids[piece] = (*self._ids.get(piece, ()), token)
        self.longest = max(map(len, self._ids), default=0)
        self.text = _text(sorted(token for tokens in self._ids.values() for token in tokens), self.end_tokens)

    def ids(self, piece: bytes) -> tuple[int, ...]:
        """Give the tokens that write exactly these bytes: often one, several where a byte has a token of its own."""
        return self._ids.get(piece, ())


def _text(ids: list[int], end_tokens: tuple[int, ...]) -> Allowed:
    """Put the two longest runs of the sorted ``ids`` into ranges: of 257 thousand ids a hundred or two are left besides."""
    runs: list[tuple[int, int]] = []
    start = 0
    for position, token in enumerate(ids, 1):
        if position == len(ids) or ids[position] != token + 1:
            runs.append((ids[start], token + 1))
            start = position
    longest = sorted(runs, key=lambda run: run[0] - run[1])
    others = [token for first, end in longest[2:] for token in range(first, end)]
    return Allowed(tuple(sorted(longest[:2])), tuple(sorted((*others, *end_tokens))))

"""The names that an answer may use as labels, byte by byte, and which tokens write them."""

from collections.abc import Iterator, Sequence

from service.engine.lexicon import Lexicon
from service.tasks.parsing import SEPARATOR

ENTRY = 0
CLOSED = 2
_BARE = 1
_BLANK = ord(" ")


class LabelTrie:
    """A trie of ``[blank] name " ; "`` for every name, walked by whole tokens, whatever number of bytes each of them writes.

    Nodes are numbered: ENTRY stands before the blank, CLOSED behind the whole separator. Names hold no separator; that makes the trie
    deterministic also where one name begins like another, as "car" and "car door". A child has a larger number than its parent, CLOSED
    excepted.
    """

    def __init__(self, names: Sequence[str], lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._children: list[dict[int, int]] = [{}, {}, {}]
        self._ends = [False, False, True]
        for name in names:
            self._insert(name)
        self._children[ENTRY] = {**self._children[_BARE], _BLANK: _BARE}
        self._live = list(self._ends)
        for node in reversed(range(len(self._children))):
            self._live[node] = self._live[node] or any(self._live[target] for _, target in self._steps(node))

    def __len__(self) -> int:
        return len(self._children)

    @property
    def writable(self) -> bool:
        """Whether the vocabulary has the tokens for one of the names at least."""
        return self._live[ENTRY]

    def may_end(self, node: int) -> bool:
        """Whether the answer may end here: behind a name, and behind a separator's ``;`` and its last blank."""
        return self._ends[node]

    def steps(self, node: int) -> dict[int, int]:
        """Give the nodes after ``node`` by token. Tokens after which no name could be finished are left out."""
        return {token: target for tokens, target in self._steps(node) if self._live[target] for token in tokens}

    def _steps(self, node: int) -> Iterator[tuple[tuple[int, ...], int]]:
        """Give (tokens of the same bytes, node after them), one byte first."""
        pending = [(node, b"")]
        while pending:
            here, written = pending.pop()
            for byte, target in self._children[here].items():
                piece = written + bytes((byte,))
                tokens = self._lexicon.ids(piece)
                if tokens:
                    yield tokens, target
                if len(piece) < self._lexicon.longest:
                    pending.append((target, piece))

    def _insert(self, name: str) -> None:
        # Half of a surrogate pair never comes this far: the prompt that holds it is refused.
        node = _BARE
        for byte in name.encode("utf-8", "replace"):
            node = self._child(node, byte)
        self._ends[node] = True
        for byte in f" {SEPARATOR}".encode():
            node = self._child(node, byte)
        self._ends[node] = True
        self._children[node][_BLANK] = CLOSED

    def _child(self, node: int, byte: int) -> int:
        if byte not in self._children[node]:
            self._children[node][byte] = len(self._children)
            self._children.append({})
            self._ends.append(False)
        return self._children[node][byte]

"""Text of tokens that come one by one."""

from service.tasks.ports import Vocabulary
from service.tasks.results import Piece

UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Gives out text as soon as no later token can change it; all pieces joined are what ``decode`` makes of all tokens.

    Two things make a token's text depend on its neighbours. A run of byte tokens is text only as a whole: one byte that is not UTF-8 spoils
    the characters before it too. And a decoder may drop or add a blank at the beginning of what it is given. So text is cut only behind an
    anchor, a token with text of its own that is not a byte, and each stretch is decoded together with the anchor before it. Every token is
    decoded three times at most.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._open: list[int] = []
        """The last anchor, and the tokens since."""
        self._given = 0
        """The characters of the last anchor."""

    def add(self, token: int) -> str:
        """Take the next token; returns the text that became certain with it, which may be none."""
        self._open.append(token)
        if token in self._vocabulary.byte_tokens:
            return ""
        own = self._vocabulary.decode([token])
        if not own or own.endswith(UNDECODABLE):
            return ""
        text = self._rest()
        self._open, self._given = [token], len(own)
        return text

    def end(self) -> str:
        """The text that was held back, now that no token follows."""
        text = self._rest()
        self._open, self._given = [], 0
        return text

    def _rest(self) -> str:
        return self._vocabulary.decode(self._open)[self._given :] if self._open else ""


def piece(token: int, probability: float, vocabulary: Vocabulary) -> Piece:
    """Spell one token."""
    byte = vocabulary.byte_tokens.get(token)
    return Piece(vocabulary.decode([token]).encode() if byte is None else bytes([byte]), probability)

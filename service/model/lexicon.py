"""A checkpoint's tokens as the bytes they write."""

import re
from collections.abc import Iterable, Iterator

from service.engine.lexicon import Lexicon
from service.model.prompt_encoder import LOCATIONS, SEGMENTATIONS, Tokenizer, control_tokens

BLANK = "▁"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def build_lexicon(tokenizer: Tokenizer, end_tokens: Iterable[int], vocabulary_size: int) -> Lexicon:
    """Read a tokenizer of Gemma's kind: U+2581 for the blank, ``<0xE2>`` for a byte. Some tenths of a second for Gemma's 257 thousand.

    ``vocabulary_size`` is the number of the model's logits; what the tokenizer has besides is left out. So are control tokens, which no
    text holds.
    """
    vocabulary = tokenizer.get_vocab()
    first_location, first_segmentation = vocabulary["<loc0000>"], vocabulary["<seg000>"]
    barred = {vocabulary[token] for token in control_tokens(tokenizer) if token in vocabulary}
    barred.update(range(first_location, first_location + LOCATIONS), range(first_segmentation, first_segmentation + SEGMENTATIONS))
    kept = ((token, piece) for piece, token in vocabulary.items() if token < vocabulary_size and token not in barred)
    return Lexicon(first_location, first_segmentation, end_tokens, _pieces(kept))


def _pieces(tokens: Iterable[tuple[int, str]]) -> Iterator[tuple[int, bytes]]:
    for token, piece in tokens:
        byte = _BYTE.fullmatch(piece) if piece.startswith("<0x") else None
        yield token, bytes((int(byte[1], 16),)) if byte else piece.replace(BLANK, " ").encode("utf-8", "surrogatepass")

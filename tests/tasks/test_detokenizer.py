"""Text token by token against the text of the whole, with tokenizers of several kinds."""

import random
import time
from collections.abc import Callable, Sequence
from functools import cache, partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from service.demo.tokenizer import build_tokenizer
from service.engine.runner import Vocabulary
from service.model.prompt_encoder import PromptEncoder
from service.tasks.detokenizer import Detokenizer

BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}
FIRST_BYTE_OF = {"embedded": 4, "gemma": 0, "llama": 0}


@cache
def embedded() -> PromptEncoder:
    return PromptEncoder(build_tokenizer(), max_prompt_tokens=128)


def encoder_vocabulary() -> Vocabulary:
    encoder = embedded()
    return Vocabulary(encoder.first_location, encoder.first_segmentation, encoder.decode, encoder.byte_tokens)


def byte_fallback(strip: bool) -> Vocabulary:
    """Bytes at 0..255, then pieces with blanks. Llama's decoder strips a blank at the beginning, Gemma's does not."""
    pieces = [*BYTES, "▁", "▁▁", "▁cat", "cat", "s", ";", "é", "猫", "\N{REPLACEMENT CHARACTER}"]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    return Vocabulary(10_000, 20_000, partial(decoded, tokenizer, len(pieces)), {byte: byte for byte in range(256)})


def byte_level() -> Vocabulary:
    """A token for each byte, in the spelling of byte-level BPE, and no names that tell so."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary(10_000, 20_000, partial(decoded, tokenizer, len(pieces)))


def word_pieces() -> Vocabulary:
    """Words that are joined by blanks, unless they say otherwise."""
    pieces = ["cat", "##s", "dog", ",", "'", "a"]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="a"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return Vocabulary(10_000, 20_000, partial(decoded, tokenizer, len(pieces)))


def decoded(tokenizer: Tokenizer, size: int, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode([token for token in tokens if 0 <= token < size], skip_special_tokens=False)
    return text


VOCABULARIES: dict[str, Callable[[], Vocabulary]] = {
    "embedded": cache(encoder_vocabulary),
    "gemma": cache(lambda: byte_fallback(strip=False)),
    "llama": cache(lambda: byte_fallback(strip=True)),
    "byte-level": cache(byte_level),
    "word pieces": cache(word_pieces),
}
"""Ids of none of them reach 300, but for the embedded one's."""


def pieces_of(vocabulary: Vocabulary, tokens: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(vocabulary)
    return [*(detokenizer.add(token) for token in tokens), detokenizer.end()]


def spelled(kind: str, text: str) -> list[int]:
    """Byte tokens."""
    return [FIRST_BYTE_OF[kind] + byte for byte in text.encode()]


# Bytes of UTF-8 in every role are rare among all ids, so they are drawn more often.
TOKENS = st.one_of(
    st.integers(0, 300),
    st.sampled_from([base + byte for base in (0, 4) for byte in (0x20, 0x3B, 0x41, 0xC3, 0xA9, 0xE7, 0x8C, 0xAB, 0xF0, 0xFF)]),
    st.integers(256, 270),
    st.integers(0, 1600),
    st.integers(-2, 2**40),
)


@pytest.mark.parametrize("kind", VOCABULARIES)
@given(tokens=st.lists(TOKENS, max_size=40))
def test_the_pieces_joined_are_the_text(kind: str, tokens: list[int]) -> None:
    vocabulary = VOCABULARIES[kind]()
    assert "".join(pieces_of(vocabulary, tokens)) == vocabulary.decode(tokens)


@pytest.mark.parametrize("kind", FIRST_BYTE_OF)
def test_a_character_of_several_bytes_comes_whole(kind: str) -> None:
    vocabulary = VOCABULARIES[kind]()
    tokens = [270, *spelled(kind, "猫"), 270] if kind == "embedded" else [259, *spelled(kind, "猫"), 259]
    first, *held, last, end = pieces_of(vocabulary, tokens)
    assert (held, end) == (["", "", ""], "")
    assert last.startswith("猫")
    assert first
    assert pieces_of(vocabulary, spelled(kind, "é")) == ["", "", "é"]


@pytest.mark.parametrize("kind", FIRST_BYTE_OF)
def test_a_character_that_a_later_byte_spoils_was_not_given_out(kind: str) -> None:
    spoiled = [*spelled(kind, "aé"), FIRST_BYTE_OF[kind] + 0xFF]
    assert pieces_of(VOCABULARIES[kind](), spoiled) == ["", "", "", "", "\N{REPLACEMENT CHARACTER}" * 4]


def test_silent_tokens_do_not_part_the_bytes_of_a_character() -> None:
    pad = 0
    first, second = spelled("embedded", "é")
    assert pieces_of(VOCABULARIES["embedded"](), [first, pad, second]) == ["", "", "", "é"]


def test_blanks_are_stripped_at_the_beginning_of_the_whole_only() -> None:
    blank, cat = 256, 258
    assert pieces_of(VOCABULARIES["llama"](), [cat, cat, blank, cat]) == ["cat", " cat", "", "  cat", ""]
    assert pieces_of(VOCABULARIES["llama"](), [blank, cat]) == ["", " cat", ""]


def test_words_come_at_once() -> None:
    assert pieces_of(VOCABULARIES["word pieces"](), [0, 1, 2]) == ["cat", "s", " dog", ""]


@pytest.mark.parametrize("unit", [[65], [0xC3], [258], [0xC3, 0xFF], [0xC3, 258], [264], [5000]])
def test_long_answers_take_linear_time(unit: list[int]) -> None:
    plain = VOCABULARIES["gemma"]()
    count = 0

    def counting(tokens: Sequence[int]) -> str:
        nonlocal count
        count += len(tokens)
        return plain.decode(tokens)

    tokens = unit * (20_000 // len(unit))
    began = time.perf_counter()
    pieces = pieces_of(Vocabulary(10_000, 20_000, counting, plain.byte_tokens), tokens)
    assert time.perf_counter() - began < 5
    assert "".join(pieces) == plain.decode(tokens)
    assert count <= 3 * len(tokens)


def test_the_embedded_words_come_at_once() -> None:
    vocabulary = VOCABULARIES["embedded"]()
    words = [token for token in range(260, 300) if vocabulary.decode([token]).strip()]
    random.Random(0).shuffle(words)
    assert pieces_of(vocabulary, words) == [*(vocabulary.decode([word]) for word in words), ""]

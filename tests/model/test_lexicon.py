import pytest
from transformers import PreTrainedTokenizerFast

from service.demo.tokenizer import build_tokenizer
from service.engine.lexicon import Lexicon
from service.model.lexicon import build_lexicon
from tests.gemma_tokenizer import CONTROL, RUNS, TAGS, gemma_tokenizer

EVERYTHING = 10**6


@pytest.fixture(params=["embedded", "gemma"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return build_tokenizer() if request.param == "embedded" else gemma_tokenizer()


def text_tokens(lexicon: Lexicon) -> set[int]:
    return {token for first, end in lexicon.text.ranges for token in range(first, end)} | set(lexicon.text.others)


def test_a_piece_is_what_its_token_decodes_to(tokenizer: PreTrainedTokenizerFast) -> None:
    lexicon = build_lexicon(tokenizer, (1,), EVERYTHING)
    for token in text_tokens(lexicon) - {1}:
        piece = tokenizer.convert_ids_to_tokens(token)
        written = bytes((int(piece[3:5], 16),)) if piece.startswith("<0x") else tokenizer.decode([token]).encode()
        assert token in lexicon.ids(written), piece
        assert len(written) <= lexicon.longest


def test_every_byte_can_be_written(tokenizer: PreTrainedTokenizerFast) -> None:
    lexicon = build_lexicon(tokenizer, (1,), EVERYTHING)
    assert all(lexicon.ids(bytes((byte,))) for byte in range(256))


def test_several_tokens_of_the_same_bytes() -> None:
    fast = gemma_tokenizer()
    lexicon = build_lexicon(fast, (1,), EVERYTHING)
    assert set(lexicon.ids(b" ")) == set(fast.convert_tokens_to_ids(["▁", "<0x20>"]))
    assert lexicon.ids("漢字".encode()) == (fast.convert_tokens_to_ids("漢字"),)
    assert lexicon.ids(b"no such piece") == ()


def test_text_is_every_token_but_marks_and_control_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    lexicon = build_lexicon(tokenizer, (1,), EVERYTHING)
    vocabulary = tokenizer.get_vocab()
    barred = {"<pad>", "<bos>", "<unk>", "<image>", *CONTROL} | {token for token in vocabulary if token.startswith(("<loc", "<seg"))}
    assert text_tokens(lexicon) == {token for piece, token in vocabulary.items() if piece not in barred}
    assert len(lexicon.text.ranges) <= 2


def test_runs_and_tags_are_text() -> None:
    fast = gemma_tokenizer()
    assert text_tokens(build_lexicon(fast, (1,), EVERYTHING)) >= set(fast.convert_tokens_to_ids([*RUNS, *TAGS]))


def test_tokens_without_a_logit_are_left_out() -> None:
    fast = gemma_tokenizer()
    size = fast.convert_tokens_to_ids("字▁")
    lexicon = build_lexicon(fast, (1,), size)
    assert max(text_tokens(lexicon)) < size
    assert lexicon.ids("字 ".encode()) == ()


def test_an_end_token_is_no_text_even_where_it_has_bytes() -> None:
    fast = gemma_tokenizer()
    newline = fast.convert_tokens_to_ids("\n")
    lexicon = build_lexicon(fast, (1, newline), EVERYTHING)
    assert lexicon.end_tokens == (1, newline)
    assert newline not in lexicon.ids(b"\n")
    assert newline in lexicon.text.others


def test_a_lexicon_of_nothing_may_only_end() -> None:
    lexicon = Lexicon(10, 20, [1], [])
    assert (lexicon.longest, lexicon.text.ranges, lexicon.text.others) == (0, (), (1,))


def test_the_longest_runs_become_ranges() -> None:
    lexicon = Lexicon(100, 200, [3], [(token, bytes((token,))) for token in (1, 2, 3, 4, 5, 6, 10, 20, 21, 22, 23)])
    assert lexicon.text.ranges == ((4, 7), (20, 24))
    assert lexicon.text.others == (1, 2, 3, 10)

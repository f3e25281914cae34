"""Every text comes back as it was; the words and marks of the tasks are one token each."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from service.demo import questions
from service.demo.scenes import COLOURS, SHAPES
from service.demo.tokenizer import BLANK, build_tokenizer

LOOK_ALIKE = re.compile(r"<(loc\d{4}|seg\d{3}|0x[0-9A-F]{2}|image|pad|eos|bos|unk)>")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    decoded = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
    assert isinstance(decoded, str)
    return decoded


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60).filter(lambda text: BLANK not in text and not LOOK_ALIKE.search(text)))
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert round_trip(tokenizer, text) == text


@pytest.mark.parametrize(
    "text", ["", " ", "  a  b ", "\n", "a\n\nb\r\n", "é漢字🙂", "how many CIRCLES", "<loc0001><seg003> x ; ", "\x00\t"]
)
def test_awkward_texts_come_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert round_trip(tokenizer, text) == text


@pytest.mark.parametrize("word", [*COLOURS, *SHAPES, *questions.PLURALS.values(), "sign", "how", "What", "colour", "color", ";"])
def test_words_are_one_token_after_a_blank(tokenizer: PreTrainedTokenizerFast, word: str) -> None:
    assert tokenizer.tokenize(f"detect {word}")[1:] == [BLANK + word]


def test_ids_are_where_paligemma_expects_them(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.convert_tokens_to_ids
    assert [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id] == [0, 1, 2]
    assert ids("<loc1023>") - ids("<loc0000>") == 1023
    assert ids("<seg127>") - ids("<seg000>") == 127
    assert ids("<image>") != tokenizer.unk_token_id
    assert len({ids(token) for token in ("<image>", "\n", "<loc0000>", "<seg000>", "<unk>")}) == 5
    assert tokenizer.padding_side == "left"
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))

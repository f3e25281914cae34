import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as RawTokenizer
from transformers import PreTrainedTokenizerFast

from service.errors import InvalidRequest, PromptTooLong
from service.model.prompt_encoder import MAX_PROMPT_CHARACTERS, PromptEncoder
from tests.grammar_walks import speech

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
CONTROL = ["<start_of_turn>", "<end_of_turn>", "<mask>", "<2mass>", "[@BOS@]", "<unused0>", "<unused98>"]
PLAIN = ["\n\n", "\n\n\n", "▁▁", "▁▁▁", "<h1>", "</h1>", "<table>", "<b>", "<code>"]
LOCATION_TOKENS = [f"<loc{index:04d}>" for index in range(1024)]
SEGMENTATION_TOKENS = [f"<seg{index:03d}>" for index in range(128)]
WORDS = ["detect", "answer", "caption", "▁en", "▁cat", "▁dog", "▁;"]


def tokenizer(added: Sequence[str] = (*LOCATION_TOKENS, *SEGMENTATION_TOKENS), newline: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of Gemma's kind: blanks as U+2581, exact decoding, control tokens and runs of line breaks among the added tokens."""
    pieces = [(word, -5.0) for word in WORDS] + [(chr(code), -10.0) for code in range(33, 127)] + [("▁", -10.0)]
    raw = RawTokenizer(models.Unigram([("<pad>", 0.0), ("<eos>", 0.0), ("<bos>", 0.0), ("<unk>", 0.0), *pieces], unk_id=3))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    runs = ["\n", *PLAIN] if newline else PLAIN[2:]
    raw.add_tokens([AddedToken(token, normalized=False) for token in [*runs, *CONTROL]])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    fast.add_tokens(list(added))
    return fast


@cache
def shared_tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer()


@cache
def shared_encoder() -> PromptEncoder:
    return PromptEncoder(shared_tokenizer(), max_prompt_tokens=128)


@pytest.fixture
def fast() -> PreTrainedTokenizerFast:
    return shared_tokenizer()


@pytest.fixture
def encoder() -> PromptEncoder:
    return shared_encoder()


def pieces(fast: PreTrainedTokenizerFast, tokens: Sequence[int]) -> list[str]:
    names: list[str] = fast.convert_ids_to_tokens(list(tokens))
    return names


def refused(encoder: PromptEncoder, prefix: str, locations_allowed: bool = False) -> str:
    with pytest.raises(InvalidRequest) as error:
        encoder.encode(prefix, locations_allowed)
    (problem,) = error.value.fields
    assert problem.field == "prompt"
    return problem.problem


def test_a_prefix_is_bos_words_newline(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    assert pieces(fast, encoder.encode("detect cat ; dog", locations_allowed=False)) == ["<bos>", "detect", "▁cat", "▁;", "▁dog", "\n"]


def test_an_empty_prefix_is_bos_and_newline(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    assert pieces(fast, encoder.encode("", locations_allowed=False)) == ["<bos>", "\n"]


@pytest.mark.parametrize("blanks", ["\n", "\n\n", " ", " \n", "\t\n ", "\u2028"])
def test_blanks_around_a_prefix_never_merge_with_the_newline(encoder: PromptEncoder, blanks: str) -> None:
    assert encoder.encode(f"{blanks}caption en{blanks}", locations_allowed=False) == encoder.encode("caption en", locations_allowed=False)


def test_line_breaks_inside_a_prefix_stay_the_tokens_they_are(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    assert pieces(fast, encoder.encode("a\nb\n\nc", locations_allowed=False)) == ["<bos>", "a", "\n", "b", "\n\n", "c", "\n"]


def test_location_tokens_where_they_are_allowed(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    prefix = "caption <loc0001><loc0002><loc1022><loc1023>"
    tokens = encoder.encode(prefix, locations_allowed=True)
    assert pieces(fast, tokens)[-5:-1] == ["<loc0001>", "<loc0002>", "<loc1022>", "<loc1023>"]
    assert tokens[-5] == encoder.first_location + 1
    assert encoder.encode("<seg127>", locations_allowed=True)[1] == encoder.first_segmentation + 127


@pytest.mark.parametrize("mark", ["<loc0000>", "<loc1023>", "<seg000>", "<seg127>"])
def test_threat_36_location_tokens_elsewhere_are_refused(encoder: PromptEncoder, mark: str) -> None:
    for prefix in (mark, f"detect {mark}", f"detect cat{mark}dog", mark * 900):
        assert mark in refused(encoder, prefix)


@pytest.mark.parametrize("token", [*SPECIAL, *CONTROL])
@pytest.mark.parametrize("locations_allowed", [False, True])
def test_threat_36_control_tokens_are_refused(encoder: PromptEncoder, token: str, locations_allowed: bool) -> None:
    for prefix in (token, f"answer en {token} what", f"cat{token}dog", token * 500, f"{token}\n"):
        assert token in refused(encoder, prefix, locations_allowed)


def test_threat_36_every_added_token_is_refused_or_plain(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    """Alone, among words, and a thousand times."""
    plain = []
    for token in fast.get_added_vocab():
        try:
            for prefix in (f"answer en {token} x", token):
                encoder.encode(prefix, locations_allowed=False)
        except InvalidRequest:
            with pytest.raises((InvalidRequest, PromptTooLong)):
                encoder.encode(token * 1000, locations_allowed=False)
            continue
        with suppress(PromptTooLong):
            encoder.encode(token * 1000, locations_allowed=False)
        plain.append(token)
    assert sorted(plain) == sorted(["\n", *PLAIN])


@pytest.mark.parametrize(
    "text",
    ["<", "<>", "<imag>", "< image >", "<loc>", "<loc12>", "<locabcd>", "<loc00٣1>", "2 < 3 > 1", "[@]", "<h1>Title</h1>", "a  b   c"],
)
def test_what_only_looks_like_a_control_token_is_text(encoder: PromptEncoder, text: str) -> None:
    tokens = encoder.encode(text, locations_allowed=False)
    assert len(tokens) >= 3


def test_a_character_the_tokenizer_does_not_know_is_no_control_token(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    assert pieces(fast, encoder.encode("caption é", locations_allowed=False)) == ["<bos>", "caption", "▁", "<unk>", "\n"]


class JoiningTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """As a normaliser would that makes plain brackets of full-width ones."""

    def encode(self, text: str, **options: object) -> list[int]:
        ids: list[int] = super().encode(text.replace("＜", "<").replace("＞", ">"), add_special_tokens=False)
        return ids


@pytest.mark.parametrize("name", ["image", "eos", "unused0", "loc0007", "seg007"])
def test_threat_36_tokens_that_a_normaliser_joins_are_found_among_the_ids(fast: PreTrainedTokenizerFast, name: str) -> None:
    joining = JoiningTokenizer(
        tokenizer_object=fast.backend_tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    assert f"<{name}>" in refused(PromptEncoder(joining, 128), f"cat ＜{name}＞")


def test_threat_41_characters_are_counted_before_tokens(fast: PreTrainedTokenizerFast) -> None:
    generous = PromptEncoder(fast, max_prompt_tokens=MAX_PROMPT_CHARACTERS + 2)
    assert len(generous.encode("x" * MAX_PROMPT_CHARACTERS, locations_allowed=False)) == MAX_PROMPT_CHARACTERS + 2
    started = time.perf_counter()
    for text in ("x" * 10_000_000, " " * 10_000_000, "e\u0301" * 5_000_000, "<" * 10_000_000):
        with pytest.raises(PromptTooLong, match=f"{len(text)} characters; at most {MAX_PROMPT_CHARACTERS}"):
            generous.encode(text, locations_allowed=False)
    assert time.perf_counter() - started < 1


HOSTILE = ["x", " ", "<", "<a", "[@", "<loc", "<loc0001", "e\u0301", "\U0001f469\u200d", "\n", "a ", "</", "\ufdfa"]


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("kind", ["embedded", "gemma"])
def test_threat_38_and_41_the_longest_prompt_of_any_kind_is_soon_tokens_or_refused(unit: str, kind: str) -> None:
    generous = PromptEncoder(speech(kind).tokenizer, max_prompt_tokens=100_000)
    started = time.perf_counter()
    for text in ((unit * MAX_PROMPT_CHARACTERS)[:MAX_PROMPT_CHARACTERS], unit * 1_000_000):
        with suppress(InvalidRequest, PromptTooLong):
            generous.encode(text, locations_allowed=True)
    # It takes milliseconds where it is linear, and minutes where it is not.
    assert time.perf_counter() - started < 5


def test_tokens_are_counted_with_bos_and_newline(fast: PreTrainedTokenizerFast) -> None:
    encoder = PromptEncoder(fast, max_prompt_tokens=10)
    assert len(encoder.encode("xxxxxxxx", locations_allowed=False)) == 10
    with pytest.raises(PromptTooLong, match="11 tokens; at most 10"):
        encoder.encode("xxxxxxxxx", locations_allowed=False)


@pytest.mark.parametrize("text", ["\ud800", "cat \udfff", "\ud83d x"])
def test_threat_27_lone_surrogates_are_refused(encoder: PromptEncoder, text: str) -> None:
    assert "Unicode" in refused(encoder, text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=8), st.sampled_from([*SPECIAL, *CONTROL, *PLAIN, "<loc0001>", "<seg001>", "<", ">", "\n"])), max_size=6
    ).map("".join)
)
def test_threat_36_no_text_brings_a_control_id(text: str) -> None:
    fast = shared_tokenizer()
    try:
        tokens = shared_encoder().encode(text, locations_allowed=False)
    except (InvalidRequest, PromptTooLong):
        return
    names = pieces(fast, tokens)
    assert names[0] == "<bos>"
    assert names[-1] == "\n"
    assert not set(names[1:-1]) & {"<pad>", "<eos>", "<bos>", "<image>", *CONTROL, *LOCATION_TOKENS, *SEGMENTATION_TOKENS}


# --- decoding ---


def test_generated_ids_decode_exactly(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    for text in (
        "<loc0051><loc0309><loc0708><loc0646> cat ; <loc0001><loc0002><loc0003><loc0004> <seg001><seg127> dog",
        "a , b .  c's <h1>",
        " x \n\n y",
    ):
        assert encoder.decode(fast.encode(text, add_special_tokens=False)) == text


def test_only_bos_eos_and_pad_leave_no_text(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    ids = fast.convert_tokens_to_ids(["<bos>", "<loc0001>", "<pad>", "<unused0>", "<image>", "<seg000>", "<eos>"])
    assert encoder.decode(ids) == "<loc0001><unused0><image><seg000>"
    assert encoder.decode([]) == ""


def test_ids_outside_the_vocabulary_decode_to_nothing(fast: PreTrainedTokenizerFast, encoder: PromptEncoder) -> None:
    (cat,) = fast.convert_tokens_to_ids(["▁cat"])
    assert encoder.decode([-1, cat, len(fast), 2**40, -(2**70)]) == " cat"


# --- a tokenizer that is not PaliGemma's ---


def test_a_tokenizer_without_locations_is_refused() -> None:
    with pytest.raises(ValueError, match="<loc0000>"):
        PromptEncoder(tokenizer(added=()), 128)


def test_a_tokenizer_whose_locations_are_out_of_order_is_refused() -> None:
    swapped = [*LOCATION_TOKENS[:500], LOCATION_TOKENS[501], LOCATION_TOKENS[500], *LOCATION_TOKENS[502:], *SEGMENTATION_TOKENS]
    with pytest.raises(ValueError, match="<loc0500>"):
        PromptEncoder(tokenizer(added=swapped), 128)


def test_a_tokenizer_without_all_segmentation_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="<seg127>"):
        PromptEncoder(tokenizer(added=[*LOCATION_TOKENS, *SEGMENTATION_TOKENS[:-1]]), 128)


def test_a_tokenizer_without_a_newline_is_refused() -> None:
    with pytest.raises(ValueError, match="line break"):
        PromptEncoder(tokenizer(newline=False), 128)


def test_byte_tokens_are_told_by_their_names(encoder: PromptEncoder) -> None:
    assert encoder.byte_tokens == {}
    fast = tokenizer((*LOCATION_TOKENS, *SEGMENTATION_TOKENS, "<0x00>", "<0xFF>", "<0xfe>", "<0x100>", "<0xG0>", "a<0x01>"))
    byte_tokens = PromptEncoder(fast, 128).byte_tokens
    assert sorted(byte_tokens.values()) == [0x00, 0xFE, 0xFF]
    assert pieces(fast, sorted(byte_tokens)) == ["<0x00>", "<0xFF>", "<0xfe>"]

"""Vocabularies that lack tokens: no answer is begun that could not be finished."""

import random
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.lexicon import Lexicon
from service.tasks.grammars import detect_grammar, segment_grammar
from tests.grammar_walks import END, accepts, state_after, walk


def small_lexicon(pieces: Sequence[str]) -> Lexicon:
    return Lexicon(1000, 3000, (END,), [(token, piece.encode()) for token, piece in enumerate(pieces, 10)])


def every_tokenization(text: bytes, lexicon: Lexicon) -> list[list[int]]:
    if not text:
        return [[]]
    cuts = [cut for cut in range(1, len(text) + 1) if lexicon.ids(text[:cut])]
    return [[token, *rest] for cut in cuts for rest in every_tokenization(text[cut:], lexicon) for token in lexicon.ids(text[:cut])]


@settings(max_examples=300)
@given(
    pieces=st.lists(st.text("ab ;", min_size=1, max_size=4), max_size=14),
    names=st.lists(st.from_regex(r"\A[ab]([ab ]{0,3}[ab])?\Z"), min_size=1, max_size=4),
    chance=st.randoms(use_true_random=False),
)
def test_a_poor_vocabulary_leads_to_no_dead_end(pieces: list[str], names: list[str], chance: random.Random) -> None:
    lexicon = small_lexicon(pieces)
    grammar = detect_grammar(names, lexicon)
    box = [1000, 1001, 1002, 1003]
    texts = [f"{blank}{name}{end}".encode() for name in names for blank in ("", " ") for end in ("", " ;", " ; ")]
    labels = [tokens for text in texts for tokens in every_tokenization(text, lexicon)]
    assert all(accepts(grammar, box + tokens) for tokens in labels)
    assert accepts(grammar, [])
    assert bool(labels) == bool(grammar.allowed(0).ranges)
    written = walk(grammar, chance, 40)
    starts = [position for position, token in enumerate(written) if token >= 1000][::4]
    for start, end in pairwise([*starts, len(written)]):
        assert written[start + 4 : end] in labels


def test_a_name_that_cannot_be_written_is_not_begun() -> None:
    grammar = detect_grammar(["cat", "cab", "dog"], small_lexicon(["c", "a", "b", " ;", "do"]))
    state = state_after(grammar, [1000] * 4)
    assert state is not None
    assert grammar.allowed(state).others == (10,)


def test_where_no_name_can_be_written_the_answer_is_empty() -> None:
    for grammar in (detect_grammar(["dog"], small_lexicon(["d", "o"])), segment_grammar(["dog"], small_lexicon([]))):
        assert (grammar.allowed(0).ranges, grammar.allowed(0).others) == ((), (END,))

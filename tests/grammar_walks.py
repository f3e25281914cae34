"""Walks of the automata that constrain decoding, and legal answers in any tokens."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from service import demo
from service.engine.grammar import Grammar
from service.engine.lexicon import Lexicon
from service.model.lexicon import build_lexicon
from service.model.prompt_encoder import PromptEncoder
from service.tasks.grammars import detect_grammar, segment_grammar
from service.tasks.ports import Vocabulary
from tests.gemma_tokenizer import gemma_tokenizer

END = 1
EMBEDDED = Path(demo.__file__).parent / "checkpoints" / "shapes-224"
MARK = re.compile(r"(<loc[0-9]{4}>|<seg[0-9]{3}>)")


@dataclass(frozen=True)
class Speech:
    """A tokenizer with all that is made of it."""

    tokenizer: PreTrainedTokenizerFast
    lexicon: Lexicon
    vocabulary: Vocabulary


@cache
def speech(kind: str) -> Speech:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED) if kind == "embedded" else gemma_tokenizer()
    encoder = PromptEncoder(tokenizer, 256)
    vocabulary = Vocabulary(encoder.first_location, encoder.first_segmentation, encoder.decode)
    return Speech(tokenizer, build_lexicon(tokenizer, (END,), len(tokenizer)), vocabulary)


def grammar_of(names: Sequence[str], lexicon: Lexicon, masks: bool) -> Grammar:
    return segment_grammar(names, lexicon) if masks else detect_grammar(names, lexicon)


def may_come(grammar: Grammar, state: int, token: int) -> bool:
    allowed = grammar.allowed(state)
    return token in allowed.others or any(first <= token < end for first, end in allowed.ranges)


def state_after(grammar: Grammar, tokens: Sequence[int]) -> int | None:
    """The state after the tokens, or None where one of them is refused."""
    state = 0
    for token in tokens:
        if not may_come(grammar, state, token):
            with pytest.raises(ValueError, match="not allowed"):
                grammar.advance(state, token)
            return None
        state = grammar.advance(state, token)
    return state


def accepts(grammar: Grammar, tokens: Sequence[int]) -> bool:
    state = state_after(grammar, tokens)
    return state is not None and may_come(grammar, state, END)


def walk(grammar: Grammar, chance: random.Random, budget: int = 250) -> list[int]:
    """Choose any of the allowed tokens until the answer ends; past the budget, end as soon as that is allowed."""
    tokens: list[int] = []
    state = 0
    while True:
        allowed = grammar.allowed(state)
        assert allowed.ranges or allowed.others
        assert len(allowed.ranges) <= 2
        assert len(set(allowed.others)) == len(allowed.others)
        if END in allowed.others and (len(tokens) > budget or chance.random() < 0.05):
            return tokens
        choices = [token for token in allowed.others if token != END]
        if allowed.ranges and (not choices or chance.random() < 0.7):
            choices = [chance.randrange(*chance.choice(allowed.ranges))]
        if not choices:
            return tokens
        tokens.append(chance.choice(choices))
        state = grammar.advance(state, tokens[-1])


def any_tokens(text: bytes, lexicon: Lexicon, chance: random.Random) -> list[int]:
    """Cut the text into pieces of the vocabulary, anyhow."""
    tokens = []
    while text:
        cuts = [cut for cut in range(1, lexicon.longest + 1) if cut <= len(text) and lexicon.ids(text[:cut])]
        cut = chance.choice(cuts)
        tokens.append(chance.choice(lexicon.ids(text[:cut])))
        text = text[cut:]
    return tokens


def tokens_of(answer: str, one: Speech, chance: random.Random) -> list[int]:
    """Location and segmentation tokens are themselves, what stands between them is cut anyhow."""
    tokens: list[int] = []
    for part in MARK.split(answer):
        tokens += [one.tokenizer.get_vocab()[part]] if MARK.fullmatch(part) else any_tokens(part.encode(), one.lexicon, chance)
    return tokens


def legal_answer(names: Sequence[str], masks: bool, chance: random.Random) -> str:
    objects = []
    for _ in range(chance.randrange(5)):
        box = "".join(f"<loc{chance.randrange(1024):04d}>" for _ in range(4))
        codes = chance.choice(["", " "]) + "".join(f"<seg{chance.randrange(128):03d}>" for _ in range(16)) if masks else ""
        objects.append(box + codes + chance.choice(["", " "]) + chance.choice(names).strip())
    return " ; ".join(objects) + (chance.choice(["", " ;", " ; "]) if objects else "")

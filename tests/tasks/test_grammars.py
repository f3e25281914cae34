"""The promises of constrained decoding: what ends always parses, and no legal answer is cut, whatever tokens it is written in."""

import pickle
import random
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.demo import questions
from service.demo.scenes import make_scene
from service.engine.grammar import Grammar
from service.engine.lexicon import Lexicon
from service.tasks.grammars import detect_grammar, prefix_grammar, segment_grammar, text_grammar
from service.tasks.parsing import parse_objects
from tests.gemma_tokenizer import CONTROL
from tests.grammar_walks import END, accepts, grammar_of, legal_answer, may_come, speech, state_after, tokens_of, walk

BOX, CODES = r"(?:<loc[0-9]{4}>){4}", r"(?:<seg[0-9]{3}>){16}"
CORNERS = "<loc0001><loc0022><loc0333><loc1023>"
SIXTEEN = "".join(f"<seg{code:03d}>" for code in range(0, 128, 8))
WORDS = ["car", "car door", "cat", "ca", "caterpillar", "cat  é", "door", "漢字", "🙂", "x▁y", "6 of clubs", "a\u00a0b", "é", "e\u0301"]
NAMES = st.lists(
    st.sampled_from(WORDS)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters=";"), min_size=1, max_size=6).filter(lambda text: text.strip()),
    min_size=1,
    max_size=16,
)
KINDS = pytest.mark.parametrize("kind", ["embedded", "gemma"])
TASKS = pytest.mark.parametrize("masks", [False, True], ids=["detect", "segment"])


@KINDS
@TASKS
@given(names=NAMES, chance=st.randoms(use_true_random=False))
def test_whatever_ends_parses(kind: str, masks: bool, names: list[str], chance: random.Random) -> None:
    one = speech(kind)
    tokens = walk(grammar_of(names, one.lexicon, masks), chance)
    written = sum(0 <= token - one.lexicon.first_location < 1024 for token in tokens)
    objects = parse_objects(tokens, [1.0] * len(tokens), one.vocabulary)
    assert written == 4 * len(objects)
    stripped = [name.strip() for name in names]
    for each in objects:
        assert each.label in stripped
        assert (each.codes is not None) == masks
    label = f" ?(?:{'|'.join(map(re.escape, stripped))})"
    grammatical = f"{BOX}{f' ?{CODES}' if masks else ''}{label}"
    assert re.fullmatch(f"(?:{grammatical}(?: ; {grammatical})*(?: ; ?)?)?", one.vocabulary.decode(tokens))


@KINDS
@TASKS
@given(names=NAMES, chance=st.randoms(use_true_random=False))
def test_no_tokenization_of_a_legal_answer_is_cut(kind: str, masks: bool, names: list[str], chance: random.Random) -> None:
    one = speech(kind)
    answer = legal_answer(names, masks, chance)
    assert accepts(grammar_of(names, one.lexicon, masks), tokens_of(answer, one, chance)), answer


@KINDS
@TASKS
@given(names=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), chance=st.randoms(use_true_random=False))
def test_the_tokenizers_own_tokens_of_a_legal_answer(kind: str, masks: bool, names: list[str], chance: random.Random) -> None:
    one = speech(kind)
    # The tokenizer makes a blank of U+2581, so that this name comes out as another one.
    names = [name for name in names if "▁" not in name] or ["cat"]
    answer = legal_answer(names, masks, chance)
    assert accepts(grammar_of(names, one.lexicon, masks), one.tokenizer.encode(answer, add_special_tokens=False)), answer


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_embedded_models_lessons(seed: int) -> None:
    one = speech("embedded")
    rng = np.random.default_rng(seed)
    scene = make_scene(rng)
    names = questions.names_to_ask(scene, rng, 4, 0.5, 0.3)
    for pair in (questions.detect(scene, names), questions.segment(scene, names, lambda _: tuple(rng.integers(0, 128, 16)))):
        grammar = prefix_grammar(pair.prefix, one.lexicon)
        assert grammar is not None
        assert accepts(grammar, one.tokenizer.encode(pair.answer, add_special_tokens=False)), pair.answer
    text = text_grammar(one.lexicon)
    for answer in (questions.caption(scene), questions.read(scene).answer, questions.region(scene, rng).answer if scene.things else ""):
        assert all(may_come(text, 0, token) for token in [*one.tokenizer.encode(answer, add_special_tokens=False), END])


@pytest.mark.parametrize(
    ("prefix", "answer"),
    [
        (
            "segment wall ; car ; david bowie",
            f"{CORNERS} {SIXTEEN} wall ; {CORNERS} {SIXTEEN} david bowie ; {CORNERS} {SIXTEEN} david bowie",
        ),
        ("detect shoe", f"{CORNERS} shoe"),
        ("detect 6 of clubs ; 7 of clubs", f"{CORNERS} 7 of clubs ; {CORNERS} 6 of clubs ; "),
        ("segment crack", f"{CORNERS}{SIXTEEN} crack"),
        ("detect sweater;pants", f"{CORNERS} sweater ; {CORNERS} pants"),
        ("segment cat", f"{CORNERS}{SIXTEEN}cat"),
        ("detect cat", f"{CORNERS} cat ;"),
        ("detect cat", ""),
    ],
)
@KINDS
def test_published_answers(kind: str, prefix: str, answer: str) -> None:
    one = speech(kind)
    grammar = prefix_grammar(prefix, one.lexicon)
    assert grammar is not None
    assert accepts(grammar, one.tokenizer.encode(answer, add_special_tokens=False))


@pytest.mark.parametrize(
    "answer",
    [
        "cat", " ", "<loc0001>", "<loc0001><loc0001><loc0001> cat", f"{CORNERS}<loc0001> cat", CORNERS, f"{CORNERS} ",
        f"{CORNERS}  cat", f"{CORNERS} ca", f"{CORNERS} dog", f"{CORNERS} cats", f"{CORNERS} Cat", f"{CORNERS} car doo", f"{CORNERS} cat ",
        f"{CORNERS} cat;", f"{CORNERS} cat ; ;", f"{CORNERS} cat ;  ", f"{CORNERS} cat ;{CORNERS} cat", f"{CORNERS} cat{CORNERS} cat",
        f"{CORNERS} cat ; cat", f"{CORNERS}{SIXTEEN} cat", f"{CORNERS} cat{SIXTEEN}", "<seg000>", f"{CORNERS} cat ; <loc0001>",
    ],
)  # fmt: skip
@KINDS
@given(chance=st.randoms(use_true_random=False))
def test_detect_refuses_what_is_no_legal_answer(kind: str, answer: str, chance: random.Random) -> None:
    one = speech(kind)
    assert not accepts(detect_grammar(["cat", "car", "car door"], one.lexicon), tokens_of(answer, one, chance))


@pytest.mark.parametrize(
    "answer",
    [
        f"{CORNERS} cat", f"{CORNERS}{SIXTEEN}", f"{CORNERS} {SIXTEEN[8:]} cat", f"{CORNERS}{SIXTEEN}<seg001> cat",
        f"{CORNERS}  {SIXTEEN} cat", f"{CORNERS}{SIXTEEN[:80]} {SIXTEEN[80:]} cat", f"{CORNERS}{SIXTEEN}  cat",
        f"{CORNERS}{SIXTEEN} cat ; {CORNERS} cat", f"{SIXTEEN} cat",
    ],
)  # fmt: skip
@KINDS
def test_segment_refuses_what_is_no_legal_answer(kind: str, answer: str) -> None:
    one = speech(kind)
    assert not accepts(segment_grammar(["cat"], one.lexicon), tokens_of(answer, one, random.Random(0)))
    assert accepts(segment_grammar(["cat"], one.lexicon), tokens_of(f"{CORNERS} {SIXTEEN} cat", one, random.Random(0)))


@KINDS
@TASKS
@given(chance=st.randoms(use_true_random=False))
def test_control_tokens_never_come(kind: str, masks: bool, chance: random.Random) -> None:
    one = speech(kind)
    grammar = grammar_of(["<unk>", "<unused0>", "<loc0001>", "<image>"], one.lexicon, masks)
    vocabulary = one.tokenizer.get_vocab()
    barred = {vocabulary[token] for token in ("<pad>", "<bos>", "<unk>", "<image>", *CONTROL) if token in vocabulary}
    assert not barred & set(walk(grammar, chance))
    assert not any(may_come(text_grammar(one.lexicon), 0, token) for token in barred)


@KINDS
def test_text_goes_on_and_ends_but_holds_no_marks(kind: str) -> None:
    one = speech(kind)
    grammar = text_grammar(one.lexicon)
    words = one.tokenizer.encode("a red car ; 漢字\n\nEND", add_special_tokens=False)
    assert accepts(grammar, words)
    assert grammar.advance(0, words[0]) == 0
    for mark in ("<loc0000>", "<loc1023>", "<seg000>", "<seg127>"):
        assert not may_come(grammar, 0, one.tokenizer.get_vocab()[mark])


@pytest.mark.parametrize(
    "prefix",
    ["", "detect", "detect ", "detect ;", "segment  ; ; ", "caption en", "Detect cat", "detecting cat", "answer en detect cat",
     "detect <loc0001><loc0002><loc0003><loc0004> cat", "segment <seg001>"],
)  # fmt: skip
def test_other_prefixes_have_no_grammar(prefix: str) -> None:
    assert prefix_grammar(prefix, speech("gemma").lexicon) is None


@pytest.mark.parametrize("names", [[], [""], ["cat", " "], ["cat;dog"]])
def test_names_that_no_answer_can_hold(names: list[str]) -> None:
    for constructor in (detect_grammar, segment_grammar):
        with pytest.raises(ValueError, match="name"):
            constructor(names, speech("gemma").lexicon)


def test_half_of_a_surrogate_pair_is_no_accident() -> None:
    walk(detect_grammar(["\ud800"], speech("gemma").lexicon), random.Random(0))


@TASKS
def test_a_shared_grammar_answers_in_any_order(masks: bool) -> None:
    one = speech("gemma")
    shared = grammar_of(WORDS, one.lexicon, masks)
    rows = [walk(shared, random.Random(seed)) for seed in range(8)]
    states = [0] * len(rows)
    for position in range(max(map(len, rows))):
        for row, tokens in enumerate(rows):
            if position < len(tokens):
                states[row] = shared.advance(states[row], tokens[position])
    assert states == [state_after(grammar_of(WORDS, one.lexicon, masks), tokens) for tokens in rows]
    assert all(shared.advance(state, END) == state for state in states)


@pytest.mark.parametrize("grammar", [detect_grammar, segment_grammar])
def test_a_grammar_travels_to_another_process_without_its_lexicon(grammar: Callable[[Sequence[str], Lexicon], Grammar]) -> None:
    lexicon = speech("gemma").lexicon
    here = grammar(["car", "car door", "café"], lexicon)
    sent = pickle.dumps(here)
    there: Grammar = pickle.loads(sent)
    assert len(sent) < 50_000
    chance = random.Random(5)
    for _ in range(20):
        state = 0
        for _ in range(60):
            allowed = here.allowed(state)
            assert there.allowed(state) == allowed
            choices = [token for first, end in allowed.ranges for token in range(first, end)] + list(allowed.others)
            token = chance.choice(choices)
            if token in lexicon.end_tokens:
                break
            assert there.advance(state, token) == here.advance(state, token)
            state = here.advance(state, token)

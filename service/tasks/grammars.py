"""The grammars of the tasks' answers, for constrained decoding.

    boxes     := [object {separator object} [separator]]
    object    := location{4} [blank] [segmentation{16} [blank]] name        the segmentation tokens in segment's answers only
    separator := " ; "                                                      its last blank may lack at the end

The names are those asked for. The automata read bytes, not one canonical tokenization: whatever tokens write a legal answer are allowed.
What they let pass, ``parsing`` reads back object by object.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.grammar import Allowed, Grammar
from service.engine.lexicon import Lexicon
from service.tasks.label_trie import CLOSED, LabelTrie
from service.tasks.parsing import BOX_TOKENS, LOCATIONS, MASK_TOKENS, SEGMENTATIONS, SEPARATOR

_DETECT = "detect "
_SEGMENT = "segment "
_MARK = re.compile(r"<(?:loc[0-9]{4}|seg[0-9]{3})>")


def detect_grammar(names: Sequence[str], lexicon: Lexicon) -> Grammar:
    """Boxes, each with one of ``names``.

    Names that the vocabulary cannot write are never written; where that is all of them, the answer is empty. Errors: ValueError where a
    name is blank or holds the separator, and where there is none.
    """
    return _ObjectGrammar(names, lexicon, BOX_TOKENS)


def segment_grammar(names: Sequence[str], lexicon: Lexicon) -> Grammar:
    """As ``detect_grammar``, with sixteen segmentation tokens in each object."""
    return _ObjectGrammar(names, lexicon, BOX_TOKENS + MASK_TOKENS)


def text_grammar(lexicon: Lexicon) -> Grammar:
    """Any text: no location, segmentation or control tokens."""
    return _TextGrammar(lexicon)


def referring_grammar(lexicon: Lexicon) -> Grammar:
    """One object without a name, or none: four locations and sixteen segmentation tokens, and the end."""
    locations = ((lexicon.first_location, lexicon.first_location + LOCATIONS),)
    codes = ((lexicon.first_segmentation, lexicon.first_segmentation + SEGMENTATIONS),)
    after, marks = dict.fromkeys(lexicon.end_tokens, 0), BOX_TOKENS + MASK_TOKENS
    states = [_State(Allowed(locations if number < BOX_TOKENS else codes, ()), {}, number + 1) for number in range(1, marks)]
    return _Table([_State(Allowed(locations, tuple(after)), after, 1), *states, _State(Allowed((), tuple(after)), after)])


def prefix_grammar(prefix: str, lexicon: Lexicon) -> Grammar | None:
    """The grammar of the names in a caller's own ``detect A ; B`` or ``segment A ; B``, None for any other prefix.

    None too where location or segmentation tokens stand among the names: what a checkpoint answers to those is its own matter.
    """
    for word, grammar in ((_DETECT, detect_grammar), (_SEGMENT, segment_grammar)):
        names = [name.strip() for name in prefix.removeprefix(word).split(SEPARATOR)]
        if prefix.startswith(word) and any(names) and not _MARK.search(prefix):
            return grammar([name for name in names if name], lexicon)
    return None


class _TextGrammar:
    """One state, in which any text may go on or end."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._allowed = lexicon.text

    def allowed(self, state: int) -> Allowed:
        return self._allowed

    def advance(self, state: int, token: int) -> int:
        return state


@dataclass(frozen=True, slots=True)
class _State:
    """``after`` holds the states after the tokens in ``allowed.others``, ``after_mark`` the one after those in its ranges."""

    allowed: Allowed
    after: dict[int, int]
    after_mark: int = 0


class _Table:
    """All states of an automaton, computed."""

    def __init__(self, states: Sequence[_State]) -> None:
        self._states = states

    def allowed(self, state: int) -> Allowed:
        return self._state(state).allowed

    def advance(self, state: int, token: int) -> int:
        here = self._state(state)
        if token in here.after:
            return here.after[token]
        for first, end in here.allowed.ranges:
            if first <= token < end:
                return here.after_mark
        raise ValueError(f"Token {token} is not allowed in state {state}.")

    def _state(self, state: int) -> _State:
        return self._states[state]


class _ObjectGrammar(_Table):
    """State n < ``marks``: n location and segmentation tokens of an object are written. Then come the nodes of the labels' trie.

    The last state of all follows a blank between the locations and the segmentation tokens.
    """

    def __init__(self, names: Sequence[str], lexicon: Lexicon, marks: int) -> None:
        stripped = [name.strip() for name in names]
        if not stripped or not all(stripped) or any(SEPARATOR in name for name in stripped):
            raise ValueError(f"One name at least is needed, and none blank or with {SEPARATOR!r} in it, got {list(names)}.")
        self._lexicon = lexicon
        self._marks = marks
        self._labels = LabelTrie(stripped, lexicon)
        self._after_blank = marks + len(self._labels)
        # Filled when first asked: most rows visit few of the states. Two threads may compute the same entry, which is harmless.
        self._known: dict[int, _State] = {}

    def __reduce__(self) -> tuple[type[_Table], tuple[list[_State]]]:
        """Travel to another process as a table, without the lexicon."""
        return _Table, ([self._state(state) for state in range(self._after_blank + 1)],)

    def _state(self, state: int) -> _State:
        found = self._known.get(state)
        if found is None:
            found = self._known[state] = self._mark_state(state) if self._is_mark_state(state) else self._label_state(state)
        return found

    def _is_mark_state(self, state: int) -> bool:
        return state < self._marks or state == self._after_blank

    def _mark_state(self, state: int) -> _State:
        """One of the object's location and segmentation tokens is to come."""
        if state == 0:
            after = dict.fromkeys(self._lexicon.end_tokens, 0)
            return _State(Allowed(self._locations() if self._labels.writable else (), tuple(after)), after, 1)
        if state < BOX_TOKENS:
            return _State(Allowed(self._locations(), ()), {}, state + 1)
        first = self._lexicon.first_segmentation
        after = dict.fromkeys(self._lexicon.ids(b" "), self._after_blank) if state == BOX_TOKENS else {}
        written = BOX_TOKENS if state == self._after_blank else state
        return _State(Allowed(((first, first + SEGMENTATIONS),), tuple(after)), after, written + 1)

    def _label_state(self, state: int) -> _State:
        """The blank, the name or the separator is to go on."""
        node = state - self._marks
        after = {token: 0 if target == CLOSED else self._marks + target for token, target in self._labels.steps(node).items()}
        if self._labels.may_end(node):
            after |= dict.fromkeys(self._lexicon.end_tokens, state)
        return _State(Allowed((), tuple(sorted(after))), after)

    def _locations(self) -> tuple[tuple[int, int], ...]:
        return ((self._lexicon.first_location, self._lexicon.first_location + LOCATIONS),)

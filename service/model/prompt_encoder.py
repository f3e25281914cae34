"""Prefixes to token ids and back, with the caller's words kept apart from the model's control tokens.

A prefix is encoded as bos, the words, newline. The newline is appended by its id: encoded together with the words it could merge with a
line break before it, and truncation could lose it.

Control tokens, refused in a caller's words: every special token, and every added token written ``<...>`` or ``[@...@]`` (Gemma's
``<start_of_turn>``, ``<unused0>``, ``<mask>``, ...). Not among them: HTML's tags and runs of blanks or line breaks, which Gemma's
vocabulary holds as plain text; location and segmentation tokens, which some prefixes need; and ``<unk>`` where the tokenizer writes it for
a character that it does not know.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from service.errors import FieldProblem, InvalidRequest, PromptTooLong

MAX_PROMPT_CHARACTERS = 8192
LOCATIONS = 1024
SEGMENTATIONS = 128
NEWLINE = "\n"

_HTML_TAG = re.compile(
    r"</?(?:table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|s|sub|sup|code|ul|ol|li|p|br|a|div|span)>"
)
_CONTROL_FORM = re.compile(r"<[^<>\s]+>|\[@[^\[\]\s]+@\]")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_MARK = re.compile(r"<(?:loc[0-9]{4}|seg[0-9]{3})>")


class Tokenizer(Protocol):
    """What is used of transformers' fast tokenizers."""

    @property
    def bos_token_id(self) -> int | None:
        """The id of ``<bos>``."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """The id of ``<eos>``."""
        ...

    @property
    def pad_token_id(self) -> int | None:
        """The id of ``<pad>``."""
        ...

    @property
    def unk_token_id(self) -> int | None:
        """The id of ``<unk>``."""
        ...

    @property
    def all_special_tokens(self) -> list[str]:
        """The tokens that ``split_special_tokens`` and ``skip_special_tokens`` are about."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Give the id of every token, added ones included."""
        ...

    def get_added_vocab(self) -> dict[str, int]:
        """Give the ids of the tokens that are found in a text before it is split into pieces."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]:
        """Turn text into ids."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Turn ids into text."""
        ...


class PromptEncoder:
    """Encodes prefixes of at most ``max_prompt_tokens`` tokens, bos and newline counted.

    ``first_location`` and ``first_segmentation`` are the ids of ``<loc0000>`` and ``<seg000>``; the others follow in order.
    ``byte_tokens`` maps the ids of ``<0x00>`` .. ``<0xFF>`` to their bytes: the tokenizer splits a character so that it has no piece for.
    Errors, at construction: ValueError where the tokenizer lacks one of the tokens PaliGemma needs.
    """

    def __init__(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> None:
        vocabulary = tokenizer.get_vocab()
        self.first_location = _first_of(vocabulary, [f"<loc{index:04d}>" for index in range(LOCATIONS)])
        self.first_segmentation = _first_of(vocabulary, [f"<seg{index:03d}>" for index in range(SEGMENTATIONS)])
        self.byte_tokens = {token: int(piece[3:-1], 16) for piece, token in vocabulary.items() if _BYTE.fullmatch(piece)}
        self._tokenizer = tokenizer
        self._max_prompt_tokens = max_prompt_tokens
        self._bos = _present(tokenizer.bos_token_id, "bos token")
        self._newline = _present(vocabulary.get(NEWLINE), "token for the line break alone")
        self._vocabulary_end = max(vocabulary.values()) + 1
        self._silent = frozenset((tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id))
        controls = control_tokens(tokenizer)
        self._control_pattern = re.compile("|".join(re.escape(token) for token in sorted(controls, key=len, reverse=True)))
        self._control_names = {vocabulary[token]: token for token in controls if vocabulary[token] != tokenizer.unk_token_id}

    def encode(self, prefix: str, locations_allowed: bool) -> tuple[int, ...]:
        """Give bos, the prefix without the blanks around it, newline. Image tokens are not part of it.

        Errors: PromptTooLong; InvalidRequest where the prefix holds a control token, or location or segmentation tokens and they are not
        allowed.
        """
        if len(prefix) > MAX_PROMPT_CHARACTERS:
            raise PromptTooLong(f"The prompt has {len(prefix)} characters; at most {MAX_PROMPT_CHARACTERS} are taken.")
        words = prefix.strip()
        self._check_text(words, locations_allowed)
        ids = self._tokenizer.encode(words, add_special_tokens=False, split_special_tokens=True)
        self._check_ids(ids, locations_allowed)
        tokens = (self._bos, *ids, self._newline)
        if len(tokens) > self._max_prompt_tokens:
            raise PromptTooLong(f"The prompt has {len(tokens)} tokens; at most {self._max_prompt_tokens} are taken by this model.")
        return tokens

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of generated ids, ``<loc0000>`` and ``<seg000>`` included. bos, eos, pad and unknown ids leave none."""
        kept = [token for token in ids if token not in self._silent and 0 <= token < self._vocabulary_end]
        return self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _check_text(self, words: str, locations_allowed: bool) -> None:
        try:
            words.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _refused("half of a surrogate pair stands in it: valid Unicode text is needed") from error
        control = self._control_pattern.search(words)
        if control:
            raise _control_refused(control.group())
        mark = None if locations_allowed else _MARK.search(words)
        if mark:
            raise _mark_refused(mark.group())

    def _check_ids(self, ids: Sequence[int], locations_allowed: bool) -> None:
        """Check once more what the tokenizer made of the text: its normaliser may join what the text held apart."""
        for token in ids:
            if token in self._control_names:
                raise _control_refused(self._control_names[token])
            if locations_allowed:
                continue
            if 0 <= token - self.first_location < LOCATIONS:
                raise _mark_refused(f"<loc{token - self.first_location:04d}>")
            if 0 <= token - self.first_segmentation < SEGMENTATIONS:
                raise _mark_refused(f"<seg{token - self.first_segmentation:03d}>")


def control_tokens(tokenizer: Tokenizer) -> set[str]:
    """Give the tokens that mean something to the model and stand in nobody's words; ``<unk>`` is among them."""
    added = {token for token in tokenizer.get_added_vocab() if _CONTROL_FORM.fullmatch(token) and not _HTML_TAG.fullmatch(token)}
    special = {token for token in tokenizer.all_special_tokens if token.strip()}
    return {token for token in added | special if not _MARK.fullmatch(token)}


def _first_of(vocabulary: Mapping[str, int], names: Sequence[str]) -> int:
    first = _present(vocabulary.get(names[0]), f"token {names[0]}")
    for offset, name in enumerate(names):
        if vocabulary.get(name) != first + offset:
            found = vocabulary.get(name)
            raise ValueError(f"The tokenizer should have {name} at id {first + offset}, behind the others, but has it at {found}.")
    return first


def _present(token: int | None, description: str) -> int:
    if token is None:
        raise ValueError(f"The tokenizer has no {description}, which PaliGemma's prompts need.")
    return token


def _refused(problem: str) -> InvalidRequest:
    return InvalidRequest("The prompt cannot be used as it is.", (FieldProblem("prompt", problem),))


def _control_refused(token: str) -> InvalidRequest:
    return _refused(f"the control token {token} stands in it: write the words without it")


def _mark_refused(token: str) -> InvalidRequest:
    return _refused(f"the token {token} stands in it: location and segmentation tokens are taken by generate only")

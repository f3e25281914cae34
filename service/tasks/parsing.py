"""Objects out of generated tokens: boxes, mask codes and labels.

The grammar, on token ids (a regular expression on the text accepts half of it, and slowly)::

    object    := location{4} [blank] [segmentation{16}] label
    label     := any other text up to ';', the next location, or the end

A run of locations that is not four long is passed over as a whole. A run of segmentation tokens that is not sixteen long gives no mask, and
leaves the box and the label.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from service.tasks.ports import Vocabulary
from service.tasks.results import Box

LOCATIONS = 1024
SEGMENTATIONS = 128
BOX_TOKENS = 4
MASK_TOKENS = 16
SEPARATOR = ";"


@dataclass(frozen=True, slots=True)
class ParsedObject:
    """One object as the model wrote it.

    ``bins`` is (y_min, x_min, y_max, x_max) in 1024ths of the picture's sides, put in order. ``codes`` are 16 mask codes 0..127, or None.
    ``score`` is the geometric mean probability of the four location tokens, 0..1. ``truncated``: the token budget ended inside the object.
    """

    label: str
    bins: tuple[int, int, int, int]
    codes: tuple[int, ...] | None
    score: float
    truncated: bool


def parse_objects(tokens: Sequence[int], probabilities: Sequence[float], vocabulary: Vocabulary, cut: bool = False) -> list[ParsedObject]:
    """Find the objects in a generation, in order. ``cut`` says that the token budget ended it. Any ids are accepted; the time is linear."""
    parser = ObjectParser(vocabulary)
    known = chain(probabilities, repeat(math.nan))
    found = [parser.add(token, probability) for token, probability in zip(tokens, known, strict=False)]
    return [each for each in (*found, parser.end(cut)) if each is not None]


class ObjectParser:
    """Finds objects in tokens that come one by one. No token is decoded twice."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._run: list[tuple[int, float]] = []
        """The locations of the run that goes on, and their probabilities."""
        self._open: _OpenObject | None = None

    def add(self, token: int, probability: float, separates: bool = False) -> ParsedObject | None:
        """Take the next token; returns the object that is complete with it.

        A label is known to end when a location or segmentation token follows it. ``separates`` says that the token holds a separator
        whatever follows, so that its object can be had at once: the objects are the same.
        """
        location = token - self._vocabulary.first_location
        if 0 <= location < LOCATIONS:
            self._run.append((location, probability))
            return self._close()
        if self._run:
            self._open = self._begun()
        if self._open is None:
            return None
        code = token - self._vocabulary.first_segmentation
        if 0 <= code < SEGMENTATIONS:
            return None if self._open.takes_code(code, self._vocabulary) else self._close()
        self._open.texts.append(token)
        return self._close() if separates else None

    def end(self, cut: bool = False) -> ParsedObject | None:
        """The object that was still open when the answer ended. ``cut`` says that the token budget ended it."""
        if self._run:
            self._open = self._begun()
        return self._close(cut)

    def _begun(self) -> "_OpenObject | None":
        run, self._run = self._run, []
        return _OpenObject(run) if len(run) == BOX_TOKENS else None

    def _close(self, cut: bool = False) -> ParsedObject | None:
        closing, self._open = self._open, None
        return None if closing is None else closing.parsed(self._vocabulary, cut)


class _OpenObject:
    """An object whose box is known: its codes so far, and the tokens of its label, or of the blank before its codes."""

    def __init__(self, run: list[tuple[int, float]]) -> None:
        self.texts: list[int] = []
        self._run = run
        self._codes: list[int] = []
        self._label: str | None = None

    def takes_code(self, code: int, vocabulary: Vocabulary) -> bool:
        """Whether a code still belongs to the object: it does before the label, behind other codes or nothing but blanks."""
        if self._codes:
            if self.texts:
                return False
        elif self.texts:
            text = vocabulary.decode(self.texts)
            if text.strip():
                self._label = text
                return False
            self.texts = []
        self._codes.append(code)
        return True

    def parsed(self, vocabulary: Vocabulary, cut: bool) -> ParsedObject:
        """Read the label; ``cut`` says that the token budget ended the answer here."""
        text = self._label
        if text is None:
            text = vocabulary.decode(self.texts) if self.texts else ""
        label, separator, _ = text.partition(SEPARATOR)
        codes = tuple(self._codes) if len(self._codes) == MASK_TOKENS else None
        bins, probabilities = zip(*self._run, strict=True)
        return ParsedObject(label.strip(), _in_order(bins), codes, _geometric_mean(probabilities), cut and not separator)


def box_in_pixels(bins: tuple[int, int, int, int], width: int, height: int, whole: int = LOCATIONS) -> Box:
    """Scale a parsed box to pixels of a picture, unrounded, of whose sides ``whole`` bins are all.

    With 1024 of them the far edge is never quite reached: the last bin is 1023/1024 of a side.

    Errors: ValueError where a side is not positive.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"A picture's sides are positive, got {width} x {height}.")
    y_min, x_min, y_max, x_max = (min(max(edge, 0), whole) / whole for edge in bins)
    return Box(x_min * width, y_min * height, x_max * width, y_max * height)


def _in_order(locations: Sequence[int]) -> tuple[int, int, int, int]:
    first_y, first_x, second_y, second_x = locations
    return min(first_y, second_y), min(first_x, second_x), max(first_y, second_y), max(first_x, second_x)


def _geometric_mean(probabilities: Sequence[float]) -> float:
    # The comparison is false for NaN too, which a model with broken logits reports.
    if len(probabilities) < BOX_TOKENS or not all(probability > 0 for probability in probabilities):
        return 0.0
    return math.exp(sum(math.log(min(probability, 1.0)) for probability in probabilities) / len(probabilities))

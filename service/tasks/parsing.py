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
    scan = _Scan(tokens, vocabulary)
    objects = []
    while scan.seek_location():
        start = scan.position
        locations = scan.locations()
        if len(locations) != BOX_TOKENS:
            continue
        codes, label, closed = _codes_and_label(scan)
        score = _geometric_mean(probabilities[start : start + BOX_TOKENS])
        truncated = cut and scan.at_end() and not closed
        objects.append(ParsedObject(label, _in_order(locations), codes, score, truncated))
    return objects


def box_in_pixels(bins: tuple[int, int, int, int], width: int, height: int) -> Box:
    """Scale a parsed box to pixels of a picture, unrounded. The far edge is never quite reached: the last bin is 1023/1024 of a side.

    Errors: ValueError where a side is not positive.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"A picture's sides are positive, got {width} x {height}.")
    y_min, x_min, y_max, x_max = (min(max(edge, 0), LOCATIONS) / LOCATIONS for edge in bins)
    return Box(x_min * width, y_min * height, x_max * width, y_max * height)


class _Scan:
    """A position in the tokens that only moves forward."""

    def __init__(self, tokens: Sequence[int], vocabulary: Vocabulary) -> None:
        self.position = 0
        self._tokens = tokens
        self._vocabulary = vocabulary

    def at_end(self) -> bool:
        return self.position == len(self._tokens)

    def seek_location(self) -> bool:
        while not self.at_end() and not self._is_location(self._tokens[self.position]):
            self.position += 1
        return not self.at_end()

    def locations(self) -> list[int]:
        """Read the run of locations from here on, as bins 0..1023."""
        start = self.position
        while not self.at_end() and self._is_location(self._tokens[self.position]):
            self.position += 1
        return [token - self._vocabulary.first_location for token in self._tokens[start : self.position]]

    def segmentations(self) -> list[int]:
        """Read the run of segmentation tokens from here on, as codes 0..127."""
        start = self.position
        while not self.at_end() and self._is_segmentation(self._tokens[self.position]):
            self.position += 1
        return [token - self._vocabulary.first_segmentation for token in self._tokens[start : self.position]]

    def text(self) -> str:
        """Read what stands from here to the next location or segmentation token."""
        start = self.position
        while not self.at_end() and not self._is_mark(self._tokens[self.position]):
            self.position += 1
        return self._vocabulary.decode(self._tokens[start : self.position]) if self.position > start else ""

    def _is_location(self, token: int) -> bool:
        return 0 <= token - self._vocabulary.first_location < LOCATIONS

    def _is_segmentation(self, token: int) -> bool:
        return 0 <= token - self._vocabulary.first_segmentation < SEGMENTATIONS

    def _is_mark(self, token: int) -> bool:
        return self._is_location(token) or self._is_segmentation(token)


def _codes_and_label(scan: _Scan) -> tuple[tuple[int, ...] | None, str, bool]:
    """Read what follows four locations: codes, label, and whether a separator closed the label."""
    text = scan.text()
    codes = None
    if not text.strip():
        run = scan.segmentations()
        if run:
            codes = tuple(run) if len(run) == MASK_TOKENS else None
            text = scan.text()
    label, separator, _ = text.partition(SEPARATOR)
    return codes, label.strip(), bool(separator)


def _in_order(locations: Sequence[int]) -> tuple[int, int, int, int]:
    first_y, first_x, second_y, second_x = locations
    return min(first_y, second_y), min(first_x, second_x), max(first_y, second_y), max(first_x, second_x)


def _geometric_mean(probabilities: Sequence[float]) -> float:
    # The comparison is false for NaN too, which a model with broken logits reports.
    if len(probabilities) < BOX_TOKENS or not all(probability > 0 for probability in probabilities):
        return 0.0
    return math.exp(sum(math.log(min(probability, 1.0)) for probability in probabilities) / len(probabilities))

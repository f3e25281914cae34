"""Training batches: pictures of the pool with freshly drawn questions, as arrays of fixed shapes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from service.demo import questions
from service.demo.network import GRID
from service.demo.pool import SIGN, Pool
from service.demo.questions import Pair
from service.demo.scenes import COLOURS, SHAPES, Scene, Thing

PATCHES = GRID * GRID
NO_PAIR = -1
CHOICES = (
    ("detect", 0.31), ("segment", 0.2), ("colour", 0.08), ("count of a shape", 0.1), ("shape", 0.04), ("is there", 0.05),
    ("count of a colour", 0.025), ("count of all", 0.02), ("sign", 0.03), ("caption", 0.075), ("cap", 0.02), ("describe", 0.02),
    ("region", 0.04),
)  # fmt: skip
"""How often each kind is asked. About a third turn on a thing's shape alone, which is the hardest to learn."""

ANSWER_WEIGHT = {"caption": 1.0, "cap": 1.0, "describe": 1.0, "detect": 0.3, "segment": 0.3, "region": 1.0}
LOCATION_WEIGHT, MASK_CODE_WEIGHT, END_WEIGHT, SHORT_ANSWER_WEIGHT = 1.0, 0.6, 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Layout:
    """``pictures`` per batch with up to ``pairs`` questions each. Packed: all of a picture's pairs in one row; else one row per pair.

    ``length`` text positions per row; at most ``targets`` answer tokens, ``points`` pointers of each kind per batch.
    """

    pictures: int
    pairs: int
    packed: bool
    length: int
    targets: int
    points: int

    @property
    def rows(self) -> int:
        """Rows of text."""
        return self.pictures if self.packed else self.pictures * self.pairs


PACKED = Layout(pictures=8, pairs=8, packed=True, length=128, targets=720, points=384)
UNPACKED = Layout(pictures=6, pairs=3, packed=False, length=52, targets=320, points=160)


@dataclass(frozen=True, slots=True)
class Pointers:
    """Where attention should look: from text position ``at`` of row ``row``, to ``to`` [points, keys]; ``real`` 0 for padding."""

    row: Tensor
    at: Tensor
    to: Tensor
    real: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's worth. ``pictures`` [n, side, side, 3] uint8; text arrays [rows, length]; ``picture`` [rows] tells each row's picture.

    ``pair``: which pair a position belongs to (-1: none); ``answer``: 1 where it is answer, 0 where prefix; ``offset``: within its pair.
    ``at`` [targets] flat text positions whose next token is ``target``, weighted by ``weight``.
    """

    pictures: Tensor
    shape: Tensor
    colour: Tensor
    box: Tensor
    characters: Tensor
    picture: Tensor
    tokens: Tensor
    pair: Tensor
    answer: Tensor
    offset: Tensor
    at: Tensor
    target: Tensor
    weight: Tensor
    words: Pointers
    names: Pointers
    things: Pointers


@dataclass(slots=True)
class _Points:
    row: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    to: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, row: int, at: int, to: NDArray[np.bool_]) -> None:
        if to.any():
            self.row.append(row)
            self.at.append(at)
            self.to.append(to)

    def tensors(self, count: int, keys: int) -> Pointers:
        used = min(count, len(self.row))
        to = np.zeros((count, keys), np.bool_)
        to[:, 0] = True
        if used:
            to[:used] = np.stack(self.to[:used])
        row, at, real = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.float32)
        row[:used], at[:used], real[:used] = self.row[:used], self.at[:used], 1
        return Pointers(*(torch.from_numpy(each) for each in (row, at, to, real)))


class Teacher:
    """Draws batches from a pool, endlessly."""

    def __init__(self, pool: Pool, tokenizer: PreTrainedTokenizerFast, seed: list[int]) -> None:
        self._pool = pool
        self._tokenizer = tokenizer
        self._rng = np.random.default_rng(seed)
        self._first_location = int(tokenizer.convert_tokens_to_ids("<loc0000>"))
        self._first_code = int(tokenizer.convert_tokens_to_ids("<seg000>"))
        self._end = int(tokenizer.eos_token_id)
        self._separator = int(tokenizer.convert_tokens_to_ids("▁;"))
        self._words = _word_meanings(tokenizer)

    def batches(self, layout: Layout, text: bool = True) -> Iterator[Batch]:
        """Without ``text`` only what the patches show."""
        while True:
            yield self.batch(layout, text)

    def batch(self, layout: Layout, text: bool = True) -> Batch:
        """One batch."""
        chosen = self._rng.integers(len(self._pool.scenes), size=layout.pictures)
        page = _Page(layout)
        if text:
            for picture, number in enumerate(chosen):
                self._fill(page, picture, int(number))
        maps = self._pool.maps
        seen = (
            torch.from_numpy(np.ascontiguousarray(each[chosen]))
            for each in (self._pool.pictures, maps.shape, maps.colour, maps.box, maps.characters)
        )
        pictures, shape, colour, box, characters = seen
        return Batch(
            pictures, shape.long(), colour.long(), box.float(), characters.long(), *page.tensors(int(self._tokenizer.pad_token_id))
        )

    def _fill(self, page: "_Page", picture: int, number: int) -> None:
        scene = self._pool.scenes[number]
        by_thing = dict(zip(scene.things, self._pool.codes[number], strict=True))
        pairs = [questions.read(scene)] if scene.sign or self._rng.random() < 0.03 else []
        tried = 0
        while page.has_room(picture) and tried < 3 * page.layout.pairs:
            tried += 1
            pair = pairs.pop() if pairs else draw_pair(scene, self._rng, by_thing)
            if pair is not None:
                self._write(page, picture, number, pair)

    def _write(self, page: "_Page", picture: int, number: int, pair: Pair) -> None:
        encode = self._tokenizer.encode
        prefix = [int(self._tokenizer.bos_token_id), *encode(pair.prefix + "\n", add_special_tokens=False)]
        answer = [*encode(pair.answer, add_special_tokens=False), self._end]
        place = page.place(picture, len(prefix) + len(answer))
        if place is None:
            return
        row, start = place
        page.write(row, start, prefix, answer, [self._weight(pair.kind, token) for token in answer])
        shape, colour = self._pool.maps.shape[number], self._pool.maps.colour[number]
        for index, token in enumerate(prefix):
            meaning = self._words.get(token)
            if meaning is not None:
                kind, value = meaning
                page.words.add(row, start + index, (shape if kind == "shape" else colour) == value)
        if pair.kind in ("detect", "segment"):
            self._point_boxes(page, (row, start), prefix, answer, pair, (shape, colour))
        elif pair.about != (None, None):
            page.things.add(row, start + len(prefix) - 1, _patches_of(*pair.about, shape, colour))

    def _point_boxes(
        self,
        page: "_Page",
        place: tuple[int, int],
        prefix: list[int],
        answer: list[int],
        pair: Pair,
        maps: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    ) -> None:
        """From each position that predicts a location: to the thing's patches, and to its name in the prefix."""
        row, start = place
        located = iter(pair.located)
        index = 0
        while index < len(answer):
            if not self._first_location <= answer[index] < self._first_location + 1024:
                index += 1
                continue
            each = next(located)
            thing = each if isinstance(each, Thing) else None
            patches = _patches_of(thing.shape, thing.colour, *maps) if thing else maps[0] == SIGN
            name = np.zeros(page.layout.length, np.bool_)
            for position, token in enumerate(prefix):
                meaning = self._words.get(token)
                fits = meaning is not None and thing is not None and meaning[1] == _value(thing, meaning[0])
                name[start + position] = fits and self._in_name(prefix, position, thing)
            for step in range(4):
                at = start + len(prefix) + index - 1 + step
                page.things.add(row, at, patches)
                page.names.add(row, at, name)
            index += 4

    def _in_name(self, prefix: list[int], position: int, thing: Thing | None) -> bool:
        """Whether the word at ``position`` stands in a name that means ``thing``: all words of the name fit it."""
        if thing is None:
            return False
        low = high = position
        while low > 0 and prefix[low - 1] in self._words:
            low -= 1
        while high + 1 < len(prefix) and prefix[high + 1] in self._words:
            high += 1
        return all(self._words[token][1] == _value(thing, self._words[token][0]) for token in prefix[low : high + 1])

    def _weight(self, kind: str, token: int) -> float:
        if self._first_location <= token < self._first_location + 1024:
            return LOCATION_WEIGHT
        if self._first_code <= token < self._first_code + 128:
            return MASK_CODE_WEIGHT
        if kind in ("detect", "segment") and token in (self._end, self._separator):
            return END_WEIGHT
        return ANSWER_WEIGHT.get(kind, SHORT_ANSWER_WEIGHT)


_PageTensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Pointers, Pointers, Pointers]


class _Page:
    """The text arrays of a batch while they are filled."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        shape = (layout.rows, layout.length)
        self.tokens, self.pair = np.full(shape, -1, np.int64), np.full(shape, NO_PAIR, np.int64)
        self.answer, self.offset = np.ones(shape, np.int64), np.zeros(shape, np.int64)
        self.picture = np.repeat(np.arange(layout.pictures), 1 if layout.packed else layout.pairs)
        self.targets: list[tuple[int, int, float]] = []
        self.words, self.names, self.things = _Points(), _Points(), _Points()
        self._used = np.zeros(layout.rows, np.int64)
        self._pairs = np.zeros(layout.pictures, np.int64)

    def has_room(self, picture: int) -> bool:
        return bool(self._pairs[picture] < self.layout.pairs)

    def place(self, picture: int, length: int) -> tuple[int, int] | None:
        """Row and first position for ``length`` tokens, or None where they do not fit."""
        row = picture if self.layout.packed else picture * self.layout.pairs + int(self._pairs[picture])
        if self._used[row] + length > self.layout.length:
            return None
        return row, int(self._used[row])

    def write(self, row: int, start: int, prefix: list[int], answer: list[int], weights: list[float]) -> None:
        length, picture = len(prefix) + len(answer), int(self.picture[row])
        whole = slice(start, start + length)
        self.tokens[row, whole] = prefix + answer
        self.pair[row, whole] = self._pairs[picture]
        self.answer[row, start : start + len(prefix)] = 0
        self.offset[row, whole] = np.arange(length)
        first = row * self.layout.length + start + len(prefix) - 1
        self.targets += [(first + index, token, weight) for index, (token, weight) in enumerate(zip(answer, weights, strict=True))]
        self._used[row] += length
        self._pairs[picture] += 1

    def tensors(self, pad: int) -> _PageTensors:
        layout = self.layout
        at, target, weight = np.zeros(layout.targets, np.int64), np.zeros(layout.targets, np.int64), np.zeros(layout.targets, np.float32)
        for index, (position, token, value) in enumerate(self.targets[: layout.targets]):
            at[index], target[index], weight[index] = position, token, value
        tokens = np.where(self.tokens < 0, pad, self.tokens)
        wrap = torch.from_numpy
        return (
            *(
                wrap(self.picture),
                wrap(tokens),
                wrap(self.pair),
                wrap(self.answer),
                wrap(self.offset),
                wrap(at),
                wrap(target),
                wrap(weight),
            ),
            self.words.tensors(layout.points, PATCHES),
            self.names.tensors(layout.points, layout.length),
            self.things.tensors(layout.points, PATCHES),
        )


def draw_pair(scene: Scene, rng: Generator, codes: dict[Thing, tuple[int, ...]]) -> Pair | None:
    """A question of a random kind, or None where the scene does not support it."""
    kind = str(rng.choice([name for name, _ in CHOICES], p=_SHARES))
    if kind == "detect":
        return questions.detect(scene, questions.names_to_ask(scene, rng, most=4, bare_share=0.4, absent_share=0.12))
    if kind == "segment":
        names = questions.names_to_ask(scene, rng, most=int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])), bare_share=0.1, absent_share=0.1)
        return questions.segment(scene, [name for name in names if name != "sign"] or ["red circle"], codes.__getitem__)
    if kind == "region":
        return questions.region(scene, rng)
    if kind in ("caption", "cap", "describe"):
        caption = questions.caption(scene, kind)
        return Pair(kind, f"{kind} en", caption)
    return questions.answer(scene, rng, kind)


_SHARES = np.array([share for _, share in CHOICES]) / sum(share for _, share in CHOICES)


def _word_meanings(tokenizer: PreTrainedTokenizerFast) -> dict[int, tuple[str, int]]:
    """Token ids that name a shape or a colour, to what the patch maps call it."""
    meanings: dict[int, tuple[str, int]] = {}
    for index, shape in enumerate(SHAPES, start=1):
        for word in (shape, questions.PLURALS[shape]):
            meanings[int(tokenizer.convert_tokens_to_ids(f"▁{word}"))] = ("shape", index)
    for index, colour in enumerate(COLOURS, start=1):
        meanings[int(tokenizer.convert_tokens_to_ids(f"▁{colour}"))] = ("colour", index)
    return meanings


def _value(thing: Thing, kind: str) -> int:
    return SHAPES.index(thing.shape) + 1 if kind == "shape" else tuple(COLOURS).index(thing.colour) + 1


def _patches_of(shape: str | None, colour: str | None, shapes: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.bool_]:
    patches = np.ones(PATCHES, np.bool_)
    if shape is not None:
        patches &= shapes == SHAPES.index(shape) + 1
    if colour is not None:
        patches &= colours == tuple(COLOURS).index(colour) + 1
    return patches

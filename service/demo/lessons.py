"""Training batches: pictures of the pool with freshly drawn questions, as arrays of fixed shapes."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from service.demo import questions
from service.demo.pages import Batch, Layout, Page
from service.demo.pool import SIGN, Pool, character_patches
from service.demo.questions import Pair
from service.demo.scenes import COLOURS, SHAPES, Scene, Thing

CHOICES = (
    ("detect", 0.31), ("segment", 0.2), ("colour", 0.08), ("count of a shape", 0.1), ("shape", 0.04), ("is there", 0.05),
    ("count of a colour", 0.025), ("count of all", 0.02), ("sign", 0.03), ("caption", 0.075), ("cap", 0.02), ("describe", 0.02),
    ("region", 0.04),
)  # fmt: skip
"""How often each kind is asked. About a third turn on a thing's shape alone, which is the hardest to learn."""

ANSWER_WEIGHT = {"caption": 1.0, "cap": 1.0, "describe": 1.0, "detect": 0.3, "segment": 0.3, "region": 1.0}
LOCATION_WEIGHT, MASK_CODE_WEIGHT, END_WEIGHT, SHORT_ANSWER_WEIGHT = 1.0, 0.6, 1.0, 2.0
EMPTY_WEIGHT_PACKED, EMPTY_WEIGHT_UNPACKED = 0.3, 0.8
"""Of the end of an answer that names nothing. While a box still spreads its probability over bins, greedy decoding favours the end."""

MORE_SIGNS = 0.15
"""Part of the pictures that is drawn anew from those with a sign, because reading is learnt slowly."""


class Teacher:
    """Draws batches from a pool, endlessly."""

    def __init__(
        self,
        pool: Pool,
        tokenizer: PreTrainedTokenizerFast,
        seed: list[int],
        absent_share: float = 0.12,
        wording: Callable[[str], str] = lambda text: text,
    ) -> None:
        """``absent_share``: of the names in a list, how many are not in the picture. ``wording`` says all texts in other words."""
        self._wording = wording
        self._absent_share = absent_share
        self._pool = pool
        self._with_sign = np.array([number for number, scene in enumerate(pool.scenes) if scene.sign])
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
        signs = self._rng.choice(self._with_sign, size=layout.pictures)
        chosen = np.where(self._rng.random(layout.pictures) < MORE_SIGNS, signs, chosen)
        page = Page(layout, self._pool.grid**2)
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

    def _fill(self, page: Page, picture: int, number: int) -> None:
        scene = self._pool.scenes[number]
        by_thing = dict(zip(scene.things, self._pool.codes[number], strict=True))
        pairs: list[Pair | None] = [questions.read(scene)] if scene.sign or self._rng.random() < 0.03 else []
        if scene.sign and self._rng.random() < 0.5:
            pairs.append(questions.answer(scene, self._rng, "sign"))
        tried = 0
        while page.has_room(picture) and tried < 3 * page.layout.pairs:
            tried += 1
            pair = pairs.pop() if pairs else draw_pair(scene, self._rng, by_thing, self._absent_share)
            if pair is not None:
                self._write(page, picture, number, pair)

    def _write(self, page: Page, picture: int, number: int, pair: Pair) -> None:
        encode = self._tokenizer.encode
        prefix = [int(self._tokenizer.bos_token_id), *encode(self._wording(pair.prefix) + "\n", add_special_tokens=False)]
        answer = [*encode(self._wording(pair.answer), add_special_tokens=False), self._end]
        place = page.place(picture, len(prefix) + len(answer))
        if place is None:
            return
        row, start = place
        nothing_there = pair.kind in ("detect", "segment") and not pair.answer
        empty = EMPTY_WEIGHT_PACKED if page.layout.packed else EMPTY_WEIGHT_UNPACKED
        page.write(row, start, prefix, answer, [empty] if nothing_there else [self._weight(pair.kind, token) for token in answer])
        shape, colour = self._pool.maps.shape[number], self._pool.maps.colour[number]
        for index, token in enumerate(prefix):
            meaning = self._words.get(token)
            if meaning is not None:
                kind, value = meaning
                page.words.add(row, start + index, (shape if kind == "shape" else colour) == value)
        if pair.kind in ("detect", "segment"):
            self._point_boxes(page, (row, start), prefix, answer, pair, (shape, colour))
        elif pair.kind in ("read", "sign") and (sign := self._pool.scenes[number].sign):
            for index, patches in enumerate(character_patches(sign, self._pool.grid)):
                page.things.add(row, start + len(prefix) - 1 + index, patches)
        elif pair.about != (None, None):
            page.things.add(row, start + len(prefix) - 1, _patches_of(*pair.about, shape, colour))

    def _point_boxes(
        self,
        page: Page,
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


def draw_pair(scene: Scene, rng: Generator, codes: dict[Thing, tuple[int, ...]], absent_share: float) -> Pair | None:
    """A question of a random kind, or None where the scene does not support it."""
    kind = str(rng.choice([name for name, _ in CHOICES], p=_SHARES))
    if kind == "detect":
        return questions.detect(scene, questions.names_to_ask(scene, rng, most=4, bare_share=0.4, absent_share=absent_share))
    if kind == "segment":
        names = questions.names_to_ask(
            scene, rng, most=int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])), bare_share=0.1, absent_share=absent_share
        )
        shapes = [name for name in names if name != "sign"]
        return questions.segment(scene, shapes, codes.__getitem__) if shapes else None
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
    patches = np.ones_like(shapes, np.bool_)
    if shape is not None:
        patches &= shapes == SHAPES.index(shape) + 1
    if colour is not None:
        patches &= colours == tuple(COLOURS).index(colour) + 1
    return patches

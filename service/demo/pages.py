"""A batch as arrays of fixed shapes, and the page on which its text is written."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NO_PAIR = -1


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
UNPACKED = Layout(pictures=6, pairs=3, packed=False, length=56, targets=320, points=160)


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
class Points:
    """Pointers while they are gathered."""

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


PageTensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Pointers, Pointers, Pointers]


class Page:
    """The text arrays of a batch while they are filled."""

    def __init__(self, layout: Layout, patches: int) -> None:
        self.layout = layout
        self._patches = patches
        shape = (layout.rows, layout.length)
        self.tokens, self.pair = np.full(shape, -1, np.int64), np.full(shape, NO_PAIR, np.int64)
        self.answer, self.offset = np.ones(shape, np.int64), np.zeros(shape, np.int64)
        self.picture = np.repeat(np.arange(layout.pictures), 1 if layout.packed else layout.pairs)
        self.targets: list[tuple[int, int, float]] = []
        self.words, self.names, self.things = Points(), Points(), Points()
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

    def tensors(self, pad: int) -> PageTensors:
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
            self.words.tensors(layout.points, self._patches),
            self.names.tensors(layout.points, layout.length),
            self.things.tensors(layout.points, self._patches),
        )

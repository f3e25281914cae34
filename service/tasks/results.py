"""What the tasks answer. Boxes are in pixels of the image as sent, after its EXIF orientation."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.bool_]
"""[height, width] of the whole image; true is inside."""


@dataclass(frozen=True, slots=True)
class Box:
    """``x_min <= x_max`` and ``y_min <= y_max``; the origin is the top left corner."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True, slots=True)
class Detection:
    """``score`` is the geometric mean probability of the four location tokens, 0..1."""

    label: str
    box: Box
    score: float


class MaskFormat(StrEnum):
    """How a mask is written: COCO's compressed run lengths, a 1-bit PNG, or polygons."""

    RLE = "rle"
    PNG = "png"
    POLYGON = "polygon"


@dataclass(frozen=True, slots=True)
class RleMask:
    """COCO's compressed run-length encoding of the whole image: what pycocotools decodes. ``size`` is (height, width)."""

    size: tuple[int, int]
    counts: str


@dataclass(frozen=True, slots=True)
class PngMask:
    """A 1-bit PNG file of the whole image."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PolygonMask:
    """Outer outlines as (x, y) in pixels. Holes are lost: run lengths keep them."""

    polygons: tuple[tuple[tuple[float, float], ...], ...]


EncodedMask: TypeAlias = RleMask | PngMask | PolygonMask


@dataclass(frozen=True, slots=True)
class Segment:
    """A detection with the mask of the object, over the whole image.

    ``mask`` is None where the model wrote a box without the 16 mask codes, the instance has no mask decoder, or the masks before it took
    all that those of one answer may take together.
    """

    label: str
    box: Box
    score: float
    mask: EncodedMask | None


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Pixels, after EXIF orientation."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the image, of the text prompt (bos, prefix, newline), and of the answer."""

    image_tokens: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds per stage; ``total`` also holds what lies between them."""

    queue: float
    preprocess: float
    vision: float
    prefill: float
    decode: float
    total: float


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of an answer: the UTF-8 it writes, which may be part of a character, and its probability, 0..1."""

    data: bytes
    probability: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What every task answers. ``text`` is the raw output; ``score`` its mean token probability, 0..1.

    ``tokens`` are the ids of ``text`` without the end token, ``probabilities`` theirs in the unscaled, unmasked distribution.
    ``pieces`` spell them, where that was asked for.
    """

    model: str
    task: str
    prompt: str
    text: str
    finish_reason: str
    score: float
    image: ImageSize
    usage: Usage
    timings: Timings
    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskResult:
    """An answer and what the task read from it. ``detections`` and ``segments`` are empty where the task has none."""

    answer: Answer
    detections: tuple[Detection, ...] = ()
    segments: tuple[Segment, ...] = ()

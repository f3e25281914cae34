"""What is asked. Every server gets the same pictures, prefixes and budgets, each in its own interface's words."""

import base64
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from load_tests.rivals.medium_model import WORDS
from service.bench.http_framing import post
from service.demo import questions
from service.demo.scenes import Scene, SceneKind, draw_scene, make_scene
from service.tasks import prompts
from service.tasks.results import Box, ImageSize

SIDE = 224
EMBEDDED_MAX_TOKENS = 128
MEDIUM_TOKENS = (4, 64)
MEDIUM_WORDS = (2, 22)
KEPT_SCENES = 256
"""So many scenes are drawn; after that they come again with another pixel changed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: a PNG, the prefix that the model gets, and the task of ours that makes this prefix."""

    image: bytes
    prefix: str
    max_tokens: int
    task: str
    fields: dict[str, Any]

    def ours(self, timeout_ms: int | None = None) -> bytes:
        """As HTTP for PaliServe."""
        timeout = {} if timeout_ms is None else {"timeout_ms": timeout_ms}
        return post(f"/v1/{self.task}", {"image": self._base64(), "max_tokens": self.max_tokens} | self.fields | timeout)

    def theirs(self) -> bytes:
        """As HTTP for the rivals."""
        return post("/predict", {"image": self._base64(), "prompt": self.prefix, "max_tokens": self.max_tokens})

    def _base64(self) -> str:
        return base64.b64encode(self.image).decode("ascii")


def embedded(seed: int, per_image: int) -> Iterator[Request]:
    """All seven tasks in turn (the eighth is a second question) about drawn scenes, ``per_image`` about each. Without an end."""
    rng = np.random.default_rng(seed)
    turn = count()
    for serial in count():
        scene, image = _picture(seed, serial)
        for _ in range(per_image):
            task, fields, prefix = _ASKING[next(turn) % len(_ASKING)](scene, rng)
            yield Request(image, prefix, EMBEDDED_MAX_TOKENS, task, fields)


def medium(seed: int, per_image: int) -> Iterator[Request]:
    """Random words and a budget drawn from ``MEDIUM_TOKENS``, which the answer always uses up. Without an end."""
    chance = random.Random(seed)
    for serial in count():
        _, image = _picture(seed, serial)
        for _ in range(per_image):
            question = " ".join(chance.choices(WORDS, k=chance.randint(*MEDIUM_WORDS)))
            yield Request(image, f"answer en {question}", chance.randint(*MEDIUM_TOKENS), "answer", {"question": question})


WORKLOADS: dict[str, Callable[[int, int], Iterator[Request]]] = {"embedded": embedded, "medium": medium}


def take(model: str, seed: int, per_image: int, number: int) -> list[Request]:
    """The first ``number`` requests of a workload; the same ones every time."""
    return list(islice(WORKLOADS[model](seed, per_image), number))


@cache
def _scene(index: int) -> tuple[Scene, np.ndarray[Any, np.dtype[np.uint8]]]:
    scene = make_scene(np.random.default_rng(7_000 + index), SceneKind(sign_share=0.4))
    return scene, np.asarray(draw_scene(scene, SIDE))


def _picture(seed: int, serial: int) -> tuple[Scene, bytes]:
    """A picture that no other pair of numbers has, so that no cache of anybody's knows it."""
    scene, drawn = _scene((seed * 31 + serial) % KEPT_SCENES)
    pixels = drawn.copy()
    # Seven pixels of the first row hold the two numbers in base 16: levels differ by less than the eye sees.
    digits = [*((seed >> shift) & 15 for shift in (0, 4, 8)), *((serial >> shift) & 15 for shift in (0, 4, 8, 12))]
    pixels[0, : len(digits), 0] = np.clip(pixels[0, : len(digits), 0], 0, 240) // 16 * 16 + np.array(digits, dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return scene, file.getvalue()


Asking = tuple[str, dict[str, Any], str]


def _caption(scene: Scene, rng: Generator) -> Asking:
    return "caption", {}, "caption en"


def _answer(scene: Scene, rng: Generator) -> Asking:
    kinds = rng.permutation(questions.ANSWER_KINDS)
    pair = next(found for kind in kinds if (found := questions.answer(scene, rng, str(kind))))
    return "answer", {"question": pair.prefix.removeprefix("answer en ")}, pair.prefix


def _names(scene: Scene) -> list[str]:
    return [thing.name for thing in scene.things] or ["red circle"]


def _detect(scene: Scene, rng: Generator) -> Asking:
    names = [*_names(scene), *(["sign"] if scene.sign else [])]
    return "detect", {"objects": names}, prompts.detect(names)


def _segment(scene: Scene, rng: Generator) -> Asking:
    names = _names(scene)[:1]
    return "segment", {"objects": names}, prompts.segment(names)


def _read(scene: Scene, rng: Generator) -> Asking:
    return "read", {}, prompts.read()


def _region(scene: Scene, rng: Generator) -> Asking:
    located = scene.things[0] if scene.things else scene.sign
    y_min, x_min, y_max, x_max = (min(max(corner, 0.0), 1.0) * SIDE for corner in (located.box if located else (0.1, 0.1, 0.9, 0.9)))
    box = Box(x_min, y_min, x_max, y_max)
    fields = {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
    return "caption-region", {"box": fields}, prompts.caption_region(box, ImageSize(SIDE, SIDE))


def _generate(scene: Scene, rng: Generator) -> Asking:
    return "generate", {"prompt": "describe en"}, "describe en"


_ASKING = (_caption, _answer, _detect, _segment, _read, _region, _generate, _answer)

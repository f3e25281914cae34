"""The requests that everyone is asked."""

import base64
import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from service.demo.questions import answer, region, segment
from service.demo.scenes import Scene, SceneKind, draw_scene, make_scene
from service.tasks.prompts import caption_region
from service.tasks.results import Box, ImageSize

SIDE = 224
MOST_TOKENS = 128
SHORTEST, LONGEST = 4, 64


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: PaliServe gets its task with fields, the rivals the prefix that the task makes of them."""

    image: bytes
    task: str
    fields: dict[str, Any]
    prefix: str
    max_tokens: int

    def to_paliserve(self) -> tuple[str, bytes]:
        """Path and body."""
        fields = self.fields | {"image": base64.b64encode(self.image).decode(), "max_tokens": self.max_tokens}
        return f"/v1/{self.task}", json.dumps(fields).encode()

    def to_rival(self) -> tuple[str, bytes]:
        """Path and body."""
        body = {"image": base64.b64encode(self.image).decode(), "prompt": self.prefix, "max_tokens": self.max_tokens}
        return "/predict", json.dumps(body).encode()


def asks(count: int, seed: int, questions: int = 1, varied: bool = False) -> list[Ask]:
    """All seven tasks in turn, on held-out scenes, ``questions`` about each.

    ``varied``: the answers are as long as budgets drawn from 4..64 say, for a model that never ends one by itself; else the model ends
    them, within 128 tokens.
    """
    rng = np.random.default_rng(seed)
    made: list[Ask] = []
    while len(made) < count:
        scene = make_scene(rng, SceneKind(sign_share=0.4))
        file = BytesIO()
        picture: Image.Image = draw_scene(scene, SIDE)
        picture.save(file, "PNG")
        for _ in range(questions):
            task, fields, prefix = _task(len(made) % 7, scene, rng)
            budget = int(rng.integers(SHORTEST, LONGEST + 1)) if varied else MOST_TOKENS
            made.append(Ask(file.getvalue(), task, fields, prefix, budget))
    return made[:count]


def _task(number: int, scene: Scene, rng: np.random.Generator) -> tuple[str, dict[str, Any], str]:
    names = [thing.name for thing in scene.things][:3] or ["sign"]
    question = answer(scene, rng, "count of all")
    words = question.prefix.removeprefix("answer en ") if question else "how many shapes are there?"
    box = Box(20.0, 30.0, 120.0, 160.0)
    corners = {"x_min": box.x_min, "y_min": box.y_min, "x_max": box.x_max, "y_max": box.y_max}
    return (
        ("caption", {}, "caption en"),
        ("answer", {"question": words}, f"answer en {words}"),
        ("detect", {"objects": names}, f"detect {' ; '.join(names)}"),
        ("segment", {"objects": names[:1]}, segment(scene, names[:1], lambda thing: (0,) * 16).prefix),
        ("read", {}, "ocr"),
        ("caption-region", {"box": corners}, caption_region(box, ImageSize(SIDE, SIDE))),
        ("generate", {"prompt": region(scene, rng).prefix}, region(scene, rng).prefix),
    )[number]

"""What is asked: tasks about pictures, as a form for REST and as a message for gRPC."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.bench.pictures import Picture
from service.bench.plan import TASKS
from service.errors import OperatorError
from service.tasks import prompts
from service.tasks.results import Box, ImageSize

WORDS = {"answer": "how many shapes are there?", "detect": "purple star ; sign", "segment": "purple star", "generate": "describe en"}
"""Of tasks that nobody gave any; a region is the middle of the picture."""

WORDLESS = ("caption", "read")
_BOUNDARY = "paliserve-bench-7f0e4c1b9d"
FORM = f"multipart/form-data; boundary={_BOUNDARY}"
SIDES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, slots=True)
class Question:
    """One task about one picture. ``fields``: the task's own, and its options, as REST names them. ``prefix``: what the model reads."""

    task: str
    fields: Mapping[str, Any]
    prefix: str
    picture: Picture

    def form(self, image: bytes) -> bytes:
        """The body over REST, of type ``FORM``; multipart, because JSON would carry a third more bytes."""
        parts = [
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, values in self.fields.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        head = f'{"".join(parts)}--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
        return b"".join((head.encode(), image, f"\r\n--{_BOUNDARY}--\r\n".encode()))


def questions(tasks: Sequence[str], words: str | None, options: Mapping[str, Any], pictures: Sequence[Picture]) -> list[Question]:
    """Each task about each picture, the tasks in turn. ``words``: see ``--prompt``. Errors: OperatorError, InvalidRequest."""
    asked = tuple(tasks) or (("generate",) if words else TASKS)
    if words and (len(asked) > 1 or asked[0] in WORDLESS):
        raise OperatorError(f"--prompt goes with one task that takes words, not with {', '.join(asked)}.")
    return [_question(task, words, options, picture) for picture in pictures for task in asked]


def endless(asked: Sequence[Question], cached: bool, write: Callable[[Question, bytes], Any]) -> Iterator[Any]:
    """Requests without an end, the questions in turn. Unless ``cached``, each has a file of its own, which no cache knows."""
    # Nor does it know those of an earlier run.
    for serial, each in enumerate(itertools.cycle(asked), time.time_ns()):
        yield write(each, each.picture.file if cached else each.picture.fresh(serial))


def _question(task: str, words: str | None, options: Mapping[str, Any], picture: Picture) -> Question:
    told = words or WORDS.get(task, "")
    own: dict[str, Any] = {}
    if task == "answer":
        own, prefix = {"question": told}, prompts.answer("en", told)
    elif task in ("detect", "segment"):
        names = [each.strip() for each in told.split(";")]
        own, prefix = {"objects": names}, (prompts.detect if task == "detect" else prompts.segment)(names)
    elif task == "caption-region":
        box = _box(told, picture.size)
        prefix = prompts.caption_region(box, ImageSize(*picture.size))
        own = {"box": json.dumps({side: getattr(box, side) for side in SIDES})}
    elif task == "generate":
        own, prefix = {"prompt": told}, prompts.generate(told)
    else:
        prefix = prompts.read() if task == "read" else prompts.caption("en", prompts.CaptionStyle.STANDARD)
    return Question(task, own | dict(options), prefix, picture)


def _box(words: str, size: tuple[int, int]) -> Box:
    width, height = size
    if not words:
        return Box(0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height)
    try:
        x_min, y_min, x_max, y_max = map(float, words.split())
    except ValueError:
        raise OperatorError(f"--prompt {words!r}: a region is four numbers in pixels: X_MIN Y_MIN X_MAX Y_MAX.") from None
    return Box(x_min, y_min, x_max, y_max)

"""What users ask, whatever they speak."""

import itertools
import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, ClassVar

from PIL import Image

from load_tests.locust.thresholds import OTHERS, Thresholds
from service.bench.pictures import Picture, sample_pictures
from service.bench.plan import TASKS
from service.bench.questions import Question, questions

FIRST_TOKEN = "first token"
SCENE = sample_pictures()[0]
QUESTIONS = (
    "how many shapes are there?", "what color is the star?", "what color is the square?", "is there a sign?", "what does the sign say?",
)  # fmt: skip
LARGE = (1600, 1200)
"""Pixels of a picture that a high resolution is worth sending for."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``name``: of its entry in the statistics."""

    name: str
    question: Question
    image: bytes


class Scenario:
    """What one user asks, without an end. ``streams``: the answers come in pieces."""

    streams: ClassVar[bool] = False
    thresholds: ClassVar[Thresholds]
    _users: ClassVar[Iterator[int]] = itertools.count()

    @abstractmethod
    def asks(self) -> Iterator[Ask]:
        """Each user has its own."""

    def _in_turn(self, asked: Sequence[Question]) -> Iterator[Question]:
        """Without an end; each user begins one further than the one before."""
        start = next(self._users) % len(asked)
        return itertools.islice(itertools.cycle(asked), start, None)


class MixedTasks(Scenario):
    """All seven tasks in turn, each about a file that the server has not seen."""

    thresholds = Thresholds(entries=TASKS)

    def asks(self) -> Iterator[Ask]:
        """Named for their tasks."""
        for question in self._in_turn(questions(TASKS, None, {}, [SCENE])):
            yield Ask(question.task, question, _fresh(SCENE))


class OneImage(Scenario):
    """Many questions about one picture: all but the first find it in the vision cache. Each round has a picture of its own."""

    thresholds = Thresholds(entries=("first question", "next question"))

    def asks(self) -> Iterator[Ask]:
        """Twice as many questions as there are, and then the next picture."""
        while True:
            image = _fresh(SCENE)
            for number, words in enumerate(2 * QUESTIONS):
                name = "next question" if number else "first question"
                yield Ask(name, questions(["answer"], words, {}, [SCENE])[0], image)


class HighResolution(Scenario):
    """Large pictures at 448 and 896 pixels: four and sixteen times the image tokens."""

    thresholds = Thresholds(entries=("detect at 448", "detect at 896"), requests=4, p95={OTHERS: 30_000.0})

    def asks(self) -> Iterator[Ask]:
        """Named for their resolutions."""
        picture = _large()
        asked = [questions(["detect"], None, {"resolution": side}, [picture])[0] for side in ("448", "896")]
        for question in self._in_turn(asked):
            yield Ask(f"detect at {question.fields['resolution']}", question, _fresh(picture))


class Streaming(Scenario):
    """Answers in pieces. The time until the first one has an entry of its own."""

    streams = True
    thresholds = Thresholds(entries=("caption, streamed", "detect, streamed", FIRST_TOKEN), p95={OTHERS: 15_000.0, FIRST_TOKEN: 10_000.0})

    def asks(self) -> Iterator[Ask]:
        """Captions and boxes in turn."""
        for question in self._in_turn(questions(["caption", "detect"], None, {"stream": "true"}, [SCENE])):
            yield Ask(f"{question.task}, streamed", question, _fresh(SCENE))


def _fresh(picture: Picture) -> bytes:
    return picture.fresh(random.getrandbits(63))


def _large() -> Picture:
    file = BytesIO()
    Image.open(BytesIO(SCENE.file)).convert("RGB").resize(LARGE).save(file, "JPEG", quality=88)
    return replace(SCENE, file=file.getvalue(), size=LARGE)


def result_of(task: str, fields: dict[str, Any]) -> Any:
    """A task's own result, in the fields of its response; None where it is missing."""
    own = {"answer": "answer", "detect": "detections", "segment": "segments", "read": "text_read", "generate": "text"}
    return fields.get(own.get(task, "caption"))

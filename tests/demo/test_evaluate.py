"""The examination measures what it says: a model that knows every answer reaches 1, one that says nothing reaches 0."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.demo import figures, questions
from service.demo.evaluate import TARGETS, Target, evaluate, table
from service.demo.figures import TOPICS, Examination, box_iou
from service.demo.scenes import Scene, Thing, draw_scene, mask_in_box


@dataclass
class Known:
    """Remembers which scene each drawn picture shows, and answers from the scene. The codes of a thing are its number, sixteen times."""

    scenes: dict[int, Scene] = field(default_factory=dict)
    things: list[Thing] = field(default_factory=list)
    pictures: list[Image.Image] = field(default_factory=list)
    silent: bool = False

    def draw(self, scene: Scene, side: int) -> Image.Image:
        picture = draw_scene(scene, 16)
        self.pictures.append(picture)
        self.scenes[id(picture)] = scene
        return picture

    def ask(self, pictures: list[Image.Image], prefixes: list[str], most_tokens: int) -> list[str]:
        assert most_tokens > 0
        return ["" if self.silent else self._answer(self.scenes[id(one)], prefix) for one, prefix in zip(pictures, prefixes, strict=True)]

    def _codes(self, thing: Thing) -> tuple[int, ...]:
        self.things.append(thing)
        return ((len(self.things) - 1) % 128,) * 16

    def _answer(self, scene: Scene, prefix: str) -> str:
        task, _, rest = prefix.partition(" ")
        if task == "detect":
            return questions.detect(scene, rest.split(" ; ")).answer
        if task == "segment":
            return questions.segment(scene, rest.split(" ; "), self._codes).answer
        if task == "ocr":
            return questions.read(scene).answer
        if rest.startswith("<loc"):
            wanted = self._boxes(rest)
            located: list[questions.Located] = [*scene.things, *([scene.sign] if scene.sign else [])]
            name = max(located, key=lambda each: box_iou(each.box, wanted)).name
            return f"an {name}" if name[0] in "aeiou" else f"a {name}"
        if task == "answer":
            return self._reply(scene, rest.removeprefix("en ").lower().removesuffix("?"))
        return questions.caption(scene, task)

    def _boxes(self, text: str) -> tuple[float, float, float, float]:
        one, two, three, four = (int(text[at + 4 : at + 8]) / 1024 for at in range(0, 36, 9))
        return one, two, three, four

    def _reply(self, scene: Scene, question: str) -> str:
        for seed in range(2000):
            for kind in questions.ANSWER_KINDS:
                pair = questions.answer(scene, np.random.default_rng(seed), kind)
                if pair and pair.prefix.removeprefix("answer en ").lower().removesuffix("?") == question:
                    return pair.answer
        raise AssertionError(question)

    def masks(self, codes: list[tuple[int, ...]]) -> NDArray[np.float32]:
        last = [max(index for index in range(len(self.things)) if index % 128 == each[0]) for each in codes]
        return np.stack([mask_in_box(self.things[index]).astype(np.float32) - 127.5 for index in last])


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    known = Known()
    monkeypatch.setattr(figures, "_picture", known.draw)
    return known


def test_perfect_answers_meet_every_target(known: Known) -> None:
    reached = evaluate(Examination(known, 12), list(TOPICS))  # type: ignore[arg-type]
    assert all(target.met(reached[topic][name]) for (topic, name), target in TARGETS.items())
    for name, value in [
        item for topic in ("detect", "bare shapes", "answer", "caption", "ocr", "small") for item in reached[topic].items()
    ]:
        assert value > 0.97 or (name in ("mean IoU of the found", "mean IoU") and value > 0.93), name
    assert reached["segment"]["mask IoU"] > 0.9
    assert reached["absent names"] == {"boxed alone": 0, "boxed in a list": 0, "others still found": 1}
    assert "**" not in table({"known": reached}, 12)


def test_silence_meets_only_what_silence_can(known: Known) -> None:
    known.silent = True
    reached = evaluate(Examination(known, 6), list(TOPICS))  # type: ignore[arg-type]
    met = {key for key, target in TARGETS.items() if target.met(reached[key[0]][key[1]])}
    assert met == {("absent names", "boxed alone"), ("absent names", "boxed in a list")}
    assert reached["ocr"]["silent without a sign"] == 1
    assert table({"known": reached, "again": reached}, 6).count("**") == 4 * (len(TARGETS) - 2)


def test_the_same_examination_shows_the_same_scenes() -> None:
    exam = Examination(Known(), 3)  # type: ignore[arg-type]
    one, two = (exam.draw(exam.rng("detect 2"), figures.NO_SIGN) for _ in range(2))
    assert [each.ground for each in one] == [each.ground for each in two]
    assert [each.ground for each in one] != [each.ground for each in exam.draw(exam.rng("detect 3"), figures.NO_SIGN)]


def test_overlap_of_boxes() -> None:
    assert box_iou((0, 0, 0.5, 0.5), (0, 0, 0.5, 0.5)) == 1
    assert box_iou((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) == 0
    assert box_iou((0, 0, 0.4, 0.2), (0, 0.1, 0.4, 0.3)) == pytest.approx(1 / 3)
    assert box_iou((0.5, 0.5, 0.2, 0.2), (0, 0, 1, 1)) == 0


def test_targets_are_bounds_from_below_or_above() -> None:
    assert Target(0.8).met(0.8)
    assert not Target(0.8).met(0.79)
    assert Target(0.05, at_most=True).met(0.02)
    assert not Target(0.05, at_most=True).met(0.06)
    assert (str(Target(0.8)), str(Target(0.05, at_most=True))) == ("≥ 0.80", "≤ 0.05")

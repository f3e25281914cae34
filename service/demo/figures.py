"""What a checkpoint gets right on scenes that no training saw."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from PIL import Image

from service.demo import questions
from service.demo.asking import Checkpoint, FoundObject, paint, parse_objects
from service.demo.scenes import SHAPES, UNSEEN_WORDS, Corners, Scene, SceneKind, Thing, draw_scene, make_scene, stencil

MASK_SIDE = 256
LARGE = 896
"""Pixels."""
SMALL = SceneKind(zoom=(0.5, 0.5))
_SMALL_UNSEEN = replace(SMALL, sign_share=1.0, words=UNSEEN_WORDS)
NO_SIGN = SceneKind(sign_share=0.0)
ALWAYS_SIGN = SceneKind(sign_share=1.0, plain_text=True)
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Examination:
    """A checkpoint, how many scenes each figure is taken over, drawn at how many pixels, and where the scenes come from."""

    checkpoint: Checkpoint
    scenes: int
    side: int = 224
    seed: int = 20261123

    def rng(self, topic: str) -> Generator:
        """Every topic has scenes of its own, the same at every examination."""
        return np.random.default_rng([self.seed, *topic.encode()])

    def draw(self, rng: Generator, kind: SceneKind) -> list[Scene]:
        """Make ``scenes`` scenes of a kind. Where a number of things is asked for, all of them found room."""
        chosen: list[Scene] = []
        while len(chosen) < self.scenes:
            scene = make_scene(rng, kind)
            if kind.things in (None, len(scene.things)):
                chosen.append(scene)
        return chosen

    def ask(self, scenes: list[Scene], prefixes: list[str], most_tokens: int, side: int | None = None) -> list[str]:
        """The checkpoint's answers. ``side`` pixels where they are to be the same for every checkpoint."""
        return self.checkpoint.ask([_picture(scene, side or self.side) for scene in scenes], prefixes, most_tokens)


def _picture(scene: Scene, side: int) -> Image.Image:
    return draw_scene(scene, side)


def box_iou(one: Corners, other: Corners) -> float:
    """Intersection over union of two boxes."""
    height = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    width = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other))
    both = height * width
    return both / (areas - both) if both else 0.0


def _best_iou(found: list[FoundObject], thing: Thing) -> float:
    return max((box_iou(each.box, thing.box) for each in found if each.name == thing.name), default=0.0)


def detection(exam: Examination) -> Figures:
    """All things of a scene by full name in one list, in any order: recall at IoU 0.5 for 1 to 4 things, mean IoU of the found."""
    figures: Figures = {}
    overlaps: list[float] = []
    for count in range(1, 5):
        rng = exam.rng(f"detect {count}")
        scenes = exam.draw(rng, SceneKind(sign_share=0.0, things=count))
        names = [[scene.things[index].name for index in rng.permutation(count)] for scene in scenes]
        answers = exam.ask(scenes, [f"detect {' ; '.join(each)}" for each in names], 8 + 6 * count)
        ious = [_best_iou(parse_objects(answer), thing) for scene, answer in zip(scenes, answers, strict=True) for thing in scene.things]
        figures[f"recall, {count}"] = float(np.mean([iou >= 0.5 for iou in ious]))
        overlaps += ious
    figures["recall, 1-2"] = (figures["recall, 1"] + 2 * figures["recall, 2"]) / 3
    figures["recall, 3-4"] = (3 * figures["recall, 3"] + 4 * figures["recall, 4"]) / 7
    figures["mean IoU of the found"] = float(np.mean([iou for iou in overlaps if iou >= 0.5] or [0.0]))
    return figures


def absence(exam: Examination) -> Figures:
    """The share of absent names that bring a box, by whatever name: asked for alone, and in a list with one or two that are there.

    Most absent names share their shape or their colour with something in the picture. Also how many of the others are still found.
    """
    rng = exam.rng("absent")
    scenes = exam.draw(rng, NO_SIGN)
    absent = [" ".join(reversed(questions.absent_thing(scene, rng))) for scene in scenes]
    alone = exam.ask(scenes, [f"detect {name}" for name in absent], 8)
    lists, present = [], []
    for scene, name in zip(scenes, absent, strict=True):
        names = [thing.name for thing in scene.things]
        rng.shuffle(names)
        present.append(names[:2])
        listed = names[:2]
        listed.insert(int(rng.integers(len(listed) + 1)), name)
        lists.append(f"detect {' ; '.join(listed)}")
    found = [[each.name for each in parse_objects(answer)] for answer in exam.ask(scenes, lists, 32)]
    asked = sum(len(names) for names in present)
    return {
        "boxed alone": float(np.mean([bool(parse_objects(answer)) for answer in alone])),
        "boxed in a list": float(np.mean([any(name not in names for name in given) for given, names in zip(found, present, strict=True)])),
        "others still found": sum(name in given for given, names in zip(found, present, strict=True) for name in names) / asked,
    }


def bare_shapes(exam: Examination) -> Figures:
    """``detect`` by a shape alone: every thing of that shape is wanted."""
    rng = exam.rng("bare shapes")
    scenes = exam.draw(rng, NO_SIGN)
    names = [
        SHAPES[rng.integers(len(SHAPES))] if rng.random() < 0.3 else scene.things[rng.integers(len(scene.things))].shape for scene in scenes
    ]
    answers = exam.ask(scenes, [f"detect {name}" for name in names], 32)
    right = given = wanted = 0
    for scene, name, answer in zip(scenes, names, answers, strict=True):
        found = parse_objects(answer)
        there = questions.find(scene, name)
        right += sum(any(box_iou(each.box, thing.box) >= 0.5 for each in found) for thing in there)
        given, wanted = given + len(found), wanted + len(there)
    return {"precision": right / max(1, given), "recall": right / max(1, wanted)}


def answers(exam: Examination) -> Figures:
    """The share of right answers for each kind of question, worded as in training (some capitalised, some without a question mark)."""
    figures: Figures = {}
    for kind in questions.ANSWER_KINDS:
        rng = exam.rng(kind)
        scene_kind = ALWAYS_SIGN if kind == "sign" else SceneKind(sign_share=0.2)
        asked: list[tuple[Scene, questions.Pair]] = []
        while len(asked) < exam.scenes:
            scene = make_scene(rng, scene_kind)
            pair = questions.answer(scene, rng, kind)
            if pair is not None:
                asked.append((scene, pair))
        replies = exam.ask([scene for scene, _ in asked], [pair.prefix for _, pair in asked], 10)
        figures[kind] = float(np.mean([reply == pair.answer for reply, (_, pair) in zip(replies, asked, strict=True)]))
    figures["how many"] = float(np.mean([figures[kind] for kind in questions.ANSWER_KINDS if kind.startswith("count")]))
    figures["all together"] = float(np.mean([figures[kind] for kind in ("how many", "colour", "shape", "is there")]))
    return figures


def captions(exam: Examination) -> Figures:
    """Word for word, and naming exactly what is there whatever the order; and the words of ``cap``, ``describe`` and of a region."""
    rng = exam.rng("captions")
    scenes = exam.draw(rng, SceneKind())
    figures: Figures = {}
    for style in ("caption", "cap", "describe"):
        given = exam.ask(scenes, [f"{style} en"] * len(scenes), 40)
        wanted = [questions.caption(scene, style) for scene in scenes]
        figures[f"{style}, word for word"] = float(np.mean([one == other for one, other in zip(given, wanted, strict=True)]))
        if style == "caption":
            figures["exactly the right set"] = float(
                np.mean([_named(one) == _named(other) for one, other in zip(given, wanted, strict=True)])
            )
    regions = [questions.region(scene, rng) for scene in scenes]
    given = exam.ask(scenes, [pair.prefix for pair in regions], 8)
    figures["a region"] = float(np.mean([one == pair.answer for one, pair in zip(given, regions, strict=True)]))
    return figures


def _named(caption: str) -> list[str]:
    return sorted(re.split(r", | and ", caption))


def segmentation(exam: Examination) -> Figures:
    """Masks by full name: IoU with the drawn ones over the whole picture; a thing that is missed counts 0. One name, and two in a list."""
    rng = exam.rng("segment")
    scenes = exam.draw(rng, NO_SIGN)
    things = [scene.things[rng.integers(len(scene.things))] for scene in scenes]
    replies = exam.ask(scenes, [f"segment {thing.name}" for thing in things], 28)
    pairs = [_overlaps(exam.checkpoint, parse_objects(reply), thing) for reply, thing in zip(replies, things, strict=True)]
    twos = exam.draw(exam.rng("segment two"), SceneKind(sign_share=0.0, things=2))
    listed = exam.ask(twos, [f"segment {' ; '.join(thing.name for thing in scene.things)}" for scene in twos], 52)
    both = [
        _overlaps(exam.checkpoint, parse_objects(reply), thing)[0]
        for reply, scene in zip(listed, twos, strict=True)
        for thing in scene.things
    ]
    return {
        "mask IoU": float(np.mean([mask for mask, _ in pairs])),
        "mask IoU of the found": float(np.mean([mask for mask, box in pairs if box >= 0.5] or [0.0])),
        "box recall": float(np.mean([box >= 0.5 for _, box in pairs])),
        "mask IoU, two names": float(np.mean(both)),
    }


def _overlaps(checkpoint: Checkpoint, found: list[FoundObject], thing: Thing) -> tuple[float, float]:
    """IoU of the mask and of the box of the first object with the thing's name; 0 and 0 where there is none."""
    meant = [(each.box, each.codes) for each in found if each.name == thing.name and each.codes]
    if not meant:
        return 0.0, 0.0
    box, codes = meant[0]
    truth = stencil(thing.polygon, MASK_SIDE) > 127
    painted = paint(checkpoint.masks([codes])[0], box, MASK_SIDE)
    return float((painted & truth).sum() / (painted | truth).sum()), box_iou(box, thing.box)


def reading(exam: Examination) -> Figures:
    """Signs read without a mistake: words of the list and numbers of up to 3 digits; words never trained on; scenes without a sign."""
    scenes = exam.draw(exam.rng("signs"), ALWAYS_SIGN)
    texts = [scene.sign.text for scene in scenes if scene.sign]
    right = [given == text for given, text in zip(exam.ask(scenes, ["ocr"] * len(scenes), 10), texts, strict=True)]
    unseen = exam.draw(exam.rng("unseen words"), SceneKind(sign_share=1.0, words=UNSEEN_WORDS))
    unseen_right = [
        given == scene.sign.text for given, scene in zip(exam.ask(unseen, ["ocr"] * len(unseen), 10), unseen, strict=True) if scene.sign
    ]
    without = exam.draw(exam.rng("no sign"), NO_SIGN)
    silent = [not given for given in exam.ask(without, ["ocr"] * len(without), 10)]
    return {
        "exact": float(np.mean(right)),
        "words": float(np.mean([good for good, text in zip(right, texts, strict=True) if not text.isdigit()])),
        "numbers": float(np.mean([good for good, text in zip(right, texts, strict=True) if text.isdigit()])),
        "unseen words": float(np.mean(unseen_right)),
        "silent without a sign": float(np.mean(silent)),
    }


def small(exam: Examination) -> Figures:
    """Things and type of half their usual size, in large pictures that are the same for every checkpoint: found, named, read."""
    figures: Figures = {}
    ious: list[float] = []
    for count in (1, 2, 4):
        rng = exam.rng(f"small {count}")
        scenes = exam.draw(rng, replace(SMALL, sign_share=0.0, things=count))
        names = [[thing.name for thing in scene.things] for scene in scenes]
        answers = exam.ask(scenes, [f"detect {' ; '.join(each)}" for each in names], 8 + 6 * count, LARGE)
        found = [_best_iou(parse_objects(answer), thing) for scene, answer in zip(scenes, answers, strict=True) for thing in scene.things]
        figures[f"recall, {count}"] = float(np.mean([iou >= 0.5 for iou in found]))
        ious += found
    figures["mean IoU"] = float(np.mean(ious))
    captioned = exam.draw(exam.rng("small captions"), SMALL)
    given = exam.ask(captioned, ["caption en"] * len(captioned), 40, LARGE)
    figures["caption, the right set"] = float(
        np.mean([_named(one) == _named(questions.caption(scene)) for one, scene in zip(given, captioned, strict=True)])
    )
    for name, kind in (("text", replace(SMALL, sign_share=1.0, plain_text=True)), ("unseen words", _SMALL_UNSEEN)):
        signs = exam.draw(exam.rng(f"small {name}"), kind)
        read = exam.ask(signs, ["ocr"] * len(signs), 10, LARGE)
        figures[f"{name} read"] = float(np.mean([given == scene.sign.text for given, scene in zip(read, signs, strict=True) if scene.sign]))
    return figures


TOPICS: dict[str, Callable[[Examination], Figures]] = {
    "detect": detection,
    "absent names": absence,
    "bare shapes": bare_shapes,
    "answer": answers,
    "caption": captions,
    "segment": segmentation,
    "ocr": reading,
    "small": small,
}

"""What is asked of a scene: pairs of a prefix and the answer the model should write."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from service.demo.scenes import COLOURS, SHAPES, Corners, Scene, Sign, Thing

PLURALS = {shape: f"{shape}s" for shape in SHAPES} | {"cross": "crosses"}
Located = Thing | Sign
MaskCodes = Callable[[Thing], tuple[int, ...]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pair:
    """A prefix and its answer. ``located`` are the boxes in the answer in order; ``about`` (shape, colour) what a question turns on."""

    kind: str
    prefix: str
    answer: str
    located: tuple[Located, ...] = ()
    about: tuple[str | None, str | None] = (None, None)


def locations(box: Corners) -> str:
    """Four location tokens."""
    return "".join(f"<loc{min(1023, max(0, int(value * 1024))):04d}>" for value in box)


def caption(scene: Scene, style: str = "caption") -> str:
    """Everything in the scene from left to right, the sign last: in the words of ``caption``, ``cap`` or ``describe``."""
    names = [thing.name for thing in scene.things] + (["sign"] if scene.sign else [])
    if style != "cap":
        names = [_with_article(name) for name in names]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"a picture of {listed}" if style == "describe" else listed


def find(scene: Scene, name: str) -> list[Located]:
    """What a name means in a scene: a full name, a bare shape (all of them, left to right), or the sign."""
    if name == "sign":
        return [scene.sign] if scene.sign else []
    return [thing for thing in scene.things if name in (thing.name, thing.shape)]


def detect(scene: Scene, names: list[str]) -> Pair:
    """Boxes in the order of the names; a name that is not there is passed over."""
    found = [(name, each) for name in names for each in find(scene, name)]
    answer = " ; ".join(f"{locations(each.box)} {name}" for name, each in found)
    return Pair("detect", f"detect {' ; '.join(names)}", answer, tuple(each for _, each in found))


def segment(scene: Scene, names: list[str], codes: MaskCodes) -> Pair:
    """As ``detect``, with sixteen mask codes after each box."""
    found = [(name, each) for name in names for each in find(scene, name) if isinstance(each, Thing)]
    parts = [f"{locations(each.box)}{''.join(f'<seg{code:03d}>' for code in codes(each))} {name}" for name, each in found]
    return Pair("segment", f"segment {' ; '.join(names)}", " ; ".join(parts), tuple(each for _, each in found))


def read(scene: Scene) -> Pair:
    """The sign's text."""
    return Pair("read", "ocr", scene.sign.text if scene.sign else "", (scene.sign,) if scene.sign else ())


def region(scene: Scene, rng: Generator) -> Pair:
    """What stands in a box that is a little off."""
    there: list[Located] = [*scene.things, *([scene.sign] if scene.sign else [])]
    target = _pick(rng, there)
    y_min, x_min, y_max, x_max = target.box
    wobble = rng.uniform(-0.06, 0.06, 4) * np.array([y_max - y_min, x_max - x_min] * 2)
    box = (y_min + wobble[0], x_min + wobble[1], y_max + wobble[2], x_max + wobble[3])
    return Pair("region", f"caption {locations(box)}", _with_article(target.name), (target,))


def answer(scene: Scene, rng: Generator, kind: str) -> Pair | None:
    """A question of one of ``ANSWER_KINDS``, or None where the scene does not support it (its answer would be ambiguous)."""
    return _QUESTIONS[kind](scene, rng)


def _colour_of(scene: Scene, rng: Generator) -> Pair | None:
    shapes = [thing.shape for thing in scene.things]
    single = [thing for thing in scene.things if shapes.count(thing.shape) == 1]
    if not single:
        return None
    thing = _pick(rng, single)
    words = f"what {_pick(rng, ['color', 'color', 'colour'])} is the {thing.shape}?"
    return _question(rng, "colour", words, thing.colour, (thing.shape, None))


def _shape_of(scene: Scene, rng: Generator) -> Pair | None:
    colours = [thing.colour for thing in scene.things]
    single = [thing for thing in scene.things if colours.count(thing.colour) == 1]
    if not single:
        return None
    thing = _pick(rng, single)
    words = _pick(rng, [f"what shape is {thing.colour}?", f"what shape is the {thing.colour} object?"])
    return _question(rng, "shape", words, thing.shape, (None, thing.colour))


def _count_of_shape(scene: Scene, rng: Generator) -> Pair:
    shapes = [thing.shape for thing in scene.things]
    shape = _pick(rng, shapes) if shapes and rng.random() < 0.7 else _pick(rng, SHAPES)
    return _question(rng, "count of a shape", f"how many {PLURALS[shape]} are there?", str(shapes.count(shape)), (shape, None))


def _count_of_colour(scene: Scene, rng: Generator) -> Pair:
    colours = [thing.colour for thing in scene.things]
    colour = _pick(rng, colours) if colours and rng.random() < 0.7 else _pick(rng, tuple(COLOURS))
    return _question(rng, "count of a colour", f"how many {colour} shapes are there?", str(colours.count(colour)), (None, colour))


def _count_of_all(scene: Scene, rng: Generator) -> Pair:
    return _question(rng, "count of all", "how many shapes are there?", str(len(scene.things)))


def _text_of_sign(scene: Scene, rng: Generator) -> Pair | None:
    return _question(rng, "sign", "what does the sign say?", scene.sign.text) if scene.sign else None


def _is_there(scene: Scene, rng: Generator) -> Pair:
    """Half yes, half no; the absent one mostly shares its shape or its colour with something present."""
    present = sorted({(thing.shape, thing.colour) for thing in scene.things})
    if present and rng.random() < 0.5:
        shape, colour = present[rng.integers(len(present))]
        return _question(rng, "is there", f"is there a {colour} {shape}?", "yes", (shape, colour))
    shape, colour = absent_thing(scene, rng)
    return _question(rng, "is there", f"is there a {colour} {shape}?", "no")


_QUESTIONS: dict[str, Callable[[Scene, Generator], Pair | None]] = {
    "count of a shape": _count_of_shape,
    "count of a colour": _count_of_colour,
    "count of all": _count_of_all,
    "colour": _colour_of,
    "shape": _shape_of,
    "is there": _is_there,
    "sign": _text_of_sign,
}
ANSWER_KINDS = tuple(_QUESTIONS)


def absent_thing(scene: Scene, rng: Generator) -> tuple[str, str]:
    """(shape, colour) of a thing that is not in the scene."""
    present = {(thing.shape, thing.colour) for thing in scene.things}
    while True:
        shape, colour = _pick(rng, SHAPES), _pick(rng, tuple(COLOURS))
        if scene.things and rng.random() < 0.7:
            near = _pick(rng, scene.things)
            shape, colour = (near.shape, colour) if rng.random() < 0.5 else (shape, near.colour)
        if (shape, colour) not in present:
            return shape, colour


def names_to_ask(scene: Scene, rng: Generator, most: int, bare_share: float, absent_share: float) -> list[str]:
    """1 to ``most`` different names: full ones, bare shapes, the sign, and some that are not there."""
    count = min(most, int(rng.choice([1, 2, 3, 4], p=[0.34, 0.2, 0.24, 0.22])))
    names: list[str] = []
    full = [thing.name for thing in scene.things] + (["sign"] if scene.sign else [])
    rng.shuffle(full)
    for _ in range(count):
        if scene.things and rng.random() < (bare_share if count == 1 else 0.12):
            name = _pick(rng, scene.things).shape
        elif full and rng.random() > absent_share:
            name = full.pop()
        else:
            shape, colour = absent_thing(scene, rng)
            name = f"{colour} {shape}"
        if name not in names:
            names.append(name)
    return names


def _question(rng: Generator, kind: str, words: str, reply: str, about: tuple[str | None, str | None] = (None, None)) -> Pair:
    if rng.random() < 0.15:
        words = words[0].upper() + words[1:]
    if rng.random() < 0.15:
        words = words.removesuffix("?")
    return Pair(kind, f"answer en {words}", reply, (), about)


def _with_article(name: str) -> str:
    return f"a{'n' if name[0] in 'aeiou' else ''} {name}"


def _pick(rng: Generator, choices: "tuple[T, ...] | list[T]") -> T:
    return choices[int(rng.integers(len(choices)))]

"""The answers that the model is taught are right."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.demo import questions
from service.demo.asking import parse_objects
from service.demo.scenes import COLOURS, SHAPES, Scene, SceneKind, Sign, Thing, make_scene, place_polygon

SEEDS = st.integers(0, 2**32 - 1)
FAST = settings(max_examples=40, deadline=None)


def thing(name: str, x: float) -> Thing:
    colour, shape = name.split()
    return Thing(shape, colour, place_polygon(shape, 0.2, 0.2, 0.0) + np.array([x, 0.5]), (0.4, x - 0.1, 0.6, x + 0.1), (0, 0, 0), False)


def sign(text: str = "STOP") -> Sign:
    return Sign(text, 0.2, (0.7, 0.1, 0.9, 0.6), (255, 255, 255), (0, 0, 0))


def scene(*names: str, text: str | None = None) -> Scene:
    things = tuple(thing(name, (index + 1) / (len(names) + 1)) for index, name in enumerate(names))
    return Scene(things, sign(text) if text else None, 0)


def codes(_: Thing) -> tuple[int, ...]:
    return tuple(range(16))


def test_captions_in_three_styles() -> None:
    drawn = scene("red circle", "orange star", text="STOP")
    assert questions.caption(drawn) == "a red circle, an orange star and a sign"
    assert questions.caption(drawn, "cap") == "red circle, orange star and sign"
    assert questions.caption(drawn, "describe") == "a picture of a red circle, an orange star and a sign"
    assert questions.caption(scene("blue heart")) == "a blue heart"


def test_detect_follows_the_order_of_the_names_and_skips_what_is_absent() -> None:
    drawn = scene("red circle", "blue square", "green circle")
    pair = questions.detect(drawn, ["blue square", "black star", "circle"])
    assert pair.prefix == "detect blue square ; black star ; circle"
    assert pair.answer == (
        "<loc0409><loc0409><loc0614><loc0614> blue square ; "
        "<loc0409><loc0153><loc0614><loc0358> circle ; "
        "<loc0409><loc0665><loc0614><loc0870> circle"
    )
    assert [each.name for each in pair.located] == ["blue square", "red circle", "green circle"]


def test_only_absent_names_give_an_empty_answer() -> None:
    drawn = scene("red circle")
    assert questions.detect(drawn, ["blue square", "sign", "star"]).answer == ""
    assert questions.segment(drawn, ["blue circle"], codes).answer == ""
    assert questions.read(drawn).answer == ""


def test_a_sign_is_found_and_read() -> None:
    drawn = scene("red circle", text="EXIT")
    assert [each.name for each in parse_objects(questions.detect(drawn, ["sign"]).answer)] == ["sign"]
    assert questions.read(drawn).answer == "EXIT"


@FAST
@given(SEEDS)
def test_boxes_and_codes_read_back_from_the_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = make_scene(rng, SceneKind(sign_share=0.3))
    names = questions.names_to_ask(drawn, rng, most=4, bare_share=0.3, absent_share=0.2)
    assert len(set(names)) == len(names) <= 4
    pair = questions.detect(drawn, names)
    found = parse_objects(pair.answer)
    assert len(found) == len(pair.located) == sum(len(questions.find(drawn, name)) for name in names)
    for each, meant in zip(found, pair.located, strict=True):
        np.testing.assert_allclose(each.box, meant.box, atol=1 / 1024 + 1e-9)
        assert each.codes is None
    segmented = questions.segment(drawn, [one.name for one in drawn.things], codes)
    assert [each.codes for each in parse_objects(segmented.answer)] == [tuple(range(16))] * len(drawn.things)


@FAST
@given(SEEDS, st.sampled_from(questions.ANSWER_KINDS))
def test_answers_agree_with_the_scene(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    drawn = make_scene(rng, SceneKind(sign_share=0.3))
    pair = questions.answer(drawn, rng, kind)
    if pair is None:
        assert kind in ("colour", "shape", "sign")
        return
    assert pair.prefix.startswith("answer en ")
    words = pair.prefix.removeprefix("answer en ").removesuffix("?").lower().split()
    shapes = [shape for shape in SHAPES if {shape, questions.PLURALS[shape]} & set(words)]
    colours = [colour for colour in COLOURS if colour in words]
    fitting = [each for each in drawn.things if each.shape in (shapes or SHAPES) and each.colour in (colours or COLOURS)]
    expected = {
        "how": str(len(fitting)),
        "is": "yes" if fitting else "no",
    }.get(words[0])
    if expected is None and "say" in words:
        expected = drawn.sign.text if drawn.sign else ""
    elif expected is None:
        assert len(fitting) == 1, "the answer would be ambiguous"
        expected = fitting[0].shape if "shape" in words else fitting[0].colour
    assert pair.answer == expected


def test_questions_of_presence_are_balanced() -> None:
    rng = np.random.default_rng(3)
    replies = [pair.answer for _ in range(600) if (pair := questions.answer(make_scene(rng, SceneKind(sign_share=0.0)), rng, "is there"))]
    assert abs(replies.count("yes") / len(replies) - 0.5) < 0.08


@FAST
@given(SEEDS)
def test_an_absent_thing_is_absent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = make_scene(rng)
    shape, colour = questions.absent_thing(drawn, rng)
    assert f"{colour} {shape}" not in [each.name for each in drawn.things]


@FAST
@given(SEEDS)
def test_a_region_is_near_what_it_names(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = make_scene(rng)
    pair = questions.region(drawn, rng)
    (meant,) = pair.located
    (asked,) = parse_objects(pair.prefix.removeprefix("caption "))
    np.testing.assert_allclose(asked.box, meant.box, atol=0.06)
    assert pair.answer in (f"a {meant.name}", f"an {meant.name}")


@pytest.mark.parametrize(
    ("value", "token"), [(-0.2, "<loc0000>"), (0.0, "<loc0000>"), (0.5, "<loc0512>"), (0.9999, "<loc1023>"), (1.3, "<loc1023>")]
)
def test_bins_are_floored_and_kept_inside(value: float, token: str) -> None:
    assert questions.locations((value,) * 4) == token * 4


def test_the_parser_takes_nothing_for_an_object_that_is_none() -> None:
    assert parse_objects("a red circle") == []
    assert parse_objects("<loc0001><loc0002><loc0003> circle") == []
    (found,) = parse_objects("<loc0000><loc0256><loc0512><loc1023><seg001> heart")
    assert found.codes is None
    assert math.isclose(found.box[3], 1023 / 1024)

"""Scenes are what they say: boxes enclose what is drawn, nothing touches, names are unique."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.demo.scenes import GAP, SHAPES, WORDS, Scene, SceneKind, draw_scene, make_scene, mask_in_box, place_polygon, stencil

SEEDS = st.integers(0, 2**32 - 1)


def scene_of(seed: int, kind: SceneKind | None = None) -> Scene:
    return make_scene(np.random.default_rng(seed), kind or SceneKind())


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_boxes_enclose_exactly_the_pixels_that_are_drawn(seed: int) -> None:
    side = 224
    scene = scene_of(seed, SceneKind(sign_share=0.5))
    ground = np.asarray(draw_scene(Scene((), None, scene.ground), side), np.int64)
    alones = [(thing.box, replace(scene, things=(thing,), sign=None)) for thing in scene.things]
    for box, alone in [*alones, *([(scene.sign.box, replace(scene, things=()))] if scene.sign else [])]:
        changed = (np.abs(np.asarray(draw_scene(alone, side), np.int64) - ground).sum(axis=2) > 6).nonzero()
        drawn = [int(changed[0].min()), int(changed[1].min()), int(changed[0].max()) + 1, int(changed[1].max()) + 1]
        assert [edge / side for edge in drawn] == pytest.approx(box, abs=2.5 / side)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_nothing_touches_and_names_are_unique_and_in_order(seed: int) -> None:
    scene = scene_of(seed, SceneKind(sign_share=0.5))
    boxes = [thing.box for thing in scene.things] + ([scene.sign.box] if scene.sign else [])
    assert all(0 <= edge <= 1 for box in boxes for edge in box)
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3]) > GAP - 1e-9
    names = [thing.name for thing in scene.things]
    assert len(set(names)) == len(names)
    centres = [thing.box[1] + thing.box[3] for thing in scene.things]
    assert centres == sorted(centres)
    assert scene.things or scene.sign


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_a_scene_is_the_same_for_the_same_seed_and_looks_alike_at_every_size(seed: int) -> None:
    scene, again = scene_of(seed), scene_of(seed)
    assert np.array_equal(np.asarray(draw_scene(scene)), np.asarray(draw_scene(again)))
    assert draw_scene(scene, 96).size == (96, 96)
    for thing in scene.things:
        small, large = stencil(thing.polygon, 64).mean(), stencil(thing.polygon, 256).mean()
        assert small == pytest.approx(large, rel=0.1, abs=0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_in_its_box_reaches_all_four_sides(shape: str) -> None:
    for seed in range(200):
        for thing in scene_of(seed).things:
            if thing.shape == shape:
                mask = mask_in_box(thing)
                assert mask.shape == (64, 64)
                assert all(edge.max() > 20 for edge in (mask[:2], mask[-2:], mask[:, :2], mask[:, -2:]))
                return
    pytest.fail(f"no {shape} in 200 scenes")


@pytest.mark.parametrize("shape", SHAPES)
def test_an_upright_shape_fills_its_width_and_height(shape: str) -> None:
    points = place_polygon(shape, 0.4, 0.2, 0.0)
    width, height = points.max(axis=0) - points.min(axis=0)
    assert width == pytest.approx(0.4, rel=0.06)
    assert height == pytest.approx(0.2, rel=0.1)


def test_plain_signs_hold_words_of_the_list_or_short_numbers() -> None:
    for seed in range(150):
        sign = scene_of(seed, SceneKind(sign_share=1.0, plain_text=True)).sign
        assert sign is not None
        assert sign.text in WORDS or (sign.text.isdigit() and len(sign.text) <= 3)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_number_of_things_can_be_fixed(count: int) -> None:
    numbers = [len(scene_of(seed, SceneKind(sign_share=0.0, things=count)).things) for seed in range(30)]
    assert max(numbers) == count
    assert sum(number == count for number in numbers) >= 25

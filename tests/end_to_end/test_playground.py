"""The playground in a real browser: each task on a sample picture, and what is drawn of it."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from tests.end_to_end.conftest import Server
from tests.end_to_end.visitor import Visitor, near

FIRST, SECOND, THIRD = (213, 94, 0), (86, 180, 233), (240, 228, 66)
"""The palette's first colours."""

GROUND = (155, 189, 200)
STAR_INSIDE = (540, 150)


def edges(box: dict[str, float]) -> list[tuple[float, float]]:
    """The middle of each side but the upper one, where the label is."""
    middle_x, middle_y = (box["x_min"] + box["x_max"]) / 2, (box["y_min"] + box["y_max"]) / 2
    return [(box["x_min"], middle_y), (box["x_max"], middle_y), (middle_x, box["y_max"])]


@pytest.mark.parametrize(
    ("task", "text"),
    [("caption", "a green square, a purple star and a sign"), ("answer", "purple"), ("read", "GIFT"), ("caption-region", "a purple star")],
)
def test_a_task_that_answers_in_words(visitor: Visitor, task: str, text: str) -> None:
    answer = visitor.sample().choose(task).ask()
    assert visitor.page.inner_text("#answer-text") == text
    assert answer["task"] == task
    assert visitor.page.inner_text("#announcement") == text
    assert "shapes-224 answered in" in visitor.page.inner_text("#status")


@pytest.mark.parametrize("task", ["detect", "generate"])
def test_boxes_are_drawn_where_things_are(visitor: Visitor, task: str) -> None:
    answer = visitor.sample().choose(task).ask()
    assert [each["label"] for each in answer["detections"]] == ["purple star", "green square", "sign"]
    for each, colour in zip(answer["detections"], (FIRST, SECOND, THIRD), strict=True):
        for x, y in edges(each["box"]):
            assert near(visitor.pixel(x, y), colour), (each["label"], x, y)
    assert visitor.page.locator("#found .name").all_inner_texts() == ["purple star", "green square", "sign"]
    shares = [f"{round(each['score'] * 100)} %" for each in answer["detections"]]
    assert visitor.page.locator("#found .score").all_inner_texts() == shares
    # Between them the picture is as it was, and so is what is in a box.
    assert visitor.pixel(20, 300) == visitor.pixel(60, 300)
    assert near(visitor.pixel(*STAR_INSIDE), (145, 50, 175))


def test_masks_are_painted(visitor: Visitor) -> None:
    visitor.sample()
    before = visitor.pixel(*STAR_INSIDE)
    answer = visitor.choose("segment").ask()
    star = answer["segments"][0]
    painted = visitor.pixel(*STAR_INSIDE)
    share = 115 / 255
    blend = [round(share * over + (1 - share) * under) for over, under in zip(FIRST, before, strict=True)]
    assert near(painted, blend, 6)
    assert near(visitor.pixel(*edges(star["box"])[0]), FIRST)
    # In the box, and not in the star: its lower middle.
    outside = ((star["box"]["x_min"] + star["box"]["x_max"]) / 2, star["box"]["y_max"] - 12)
    mask = coco.decode({"size": star["mask"]["size"], "counts": star["mask"]["counts"].encode()})
    assert not mask[round(outside[1]), round(outside[0])]
    assert near(visitor.pixel(*outside), GROUND, 40)


def test_pointing_highlights_both_ways(visitor: Visitor) -> None:
    answer = visitor.sample().choose("detect").ask()
    square = edges(answer["detections"][1]["box"])[0]
    visitor.page.hover("#found li >> nth=0")
    assert not near(visitor.pixel(*square), SECOND)
    visitor.page.hover("#found li >> nth=1")
    assert near(visitor.pixel(*square), SECOND)
    canvas = visitor.page.locator("#canvas").bounding_box()
    assert canvas
    scale = canvas["width"] / 640
    visitor.page.mouse.move(canvas["x"] + STAR_INSIDE[0] * scale, canvas["y"] + STAR_INSIDE[1] * scale)
    assert visitor.page.locator("#found li.pointed .name").all_inner_texts() == ["purple star"]


def test_each_can_be_hidden(visitor: Visitor) -> None:
    answer = visitor.sample().choose("detect").ask()
    star, square = (edges(each["box"])[0] for each in answer["detections"][:2])
    visitor.page.locator("#found input").nth(0).uncheck()
    visitor.page.mouse.move(0, 0)
    assert not near(visitor.pixel(*star), FIRST)
    assert near(visitor.pixel(*square), SECOND)
    assert "purple star" not in (visitor.page.get_attribute("#canvas", "aria-label") or "")
    visitor.page.click("#toggle-all")
    assert not near(visitor.pixel(*square), SECOND)
    visitor.page.click("#toggle-all")
    visitor.page.mouse.move(0, 0)
    assert near(visitor.pixel(*star), FIRST)


def test_a_region_is_dragged(visitor: Visitor) -> None:
    visitor.sample().choose("caption-region")
    canvas = visitor.page.locator("#canvas").bounding_box()
    assert canvas
    scale = canvas["width"] / 640
    visitor.page.mouse.move(canvas["x"] + 372 * scale, canvas["y"] + 200 * scale)
    visitor.page.mouse.down()
    visitor.page.mouse.move(canvas["x"] + 300 * scale, canvas["y"] + 150 * scale)
    visitor.page.mouse.move(canvas["x"] + 208 * scale, canvas["y"] + 90 * scale)
    visitor.page.mouse.up()
    sides = [int(visitor.page.input_value(f"#{side}")) for side in ("x_min", "y_min", "x_max", "y_max")]
    assert all(abs(mine - theirs) <= 2 for mine, theirs in zip(sides, (208, 90, 372, 200), strict=True))
    assert visitor.ask()["caption"] == "a green square"


def test_a_model_and_a_resolution_are_chosen(visitor: Visitor) -> None:
    visitor.sample("small.png").choose("read")
    assert visitor.page.is_visible("#adapter-field")
    assert visitor.ask()["model"] == "shapes-224"
    visitor.page.select_option("#model", "resolution:448")
    assert not visitor.page.is_visible("#adapter-field")
    answer = visitor.ask()
    assert (answer["model"], answer["text_read"]) == ("shapes-448", "WORD")
    visitor.page.select_option("#model", "model:shapes-896")
    assert visitor.ask()["model"] == "shapes-896"


def test_words_and_options_reach_the_model(visitor: Visitor) -> None:
    visitor.sample().choose("caption")
    visitor.page.select_option("#style", "detailed")
    assert visitor.ask()["prompt"] == "describe en"
    visitor.page.select_option("#language", "de")
    visitor.page.click(".options summary")
    visitor.page.fill("#max_tokens", "2")
    visitor.page.check("#strict")
    answer = visitor.ask()
    assert (answer["prompt"], answer["finish_reason"], answer["usage"]["completion_tokens"]) == ("describe de", "length", 2)
    assert "cut off" in visitor.page.inner_text("#status")


def test_objects_are_chips(visitor: Visitor) -> None:
    visitor.choose("detect").sample()
    chips = visitor.page.locator("#objects-list .chip span")
    assert chips.all_inner_texts() == ["purple star", "green square", "sign"]
    visitor.page.get_by_role("button", name="Remove green square").click()
    visitor.page.fill("#objects", "red circle, green square; sign")
    assert chips.all_inner_texts() == ["purple star", "sign", "red circle", "green square"]
    visitor.page.fill("#objects", "")
    visitor.page.press("#objects", "Backspace")
    visitor.page.fill("#objects", "square")
    # What is only typed is asked for too.
    assert visitor.ask()["prompt"] == "detect purple star ; sign ; red circle ; square"


def test_tokens_and_timings_are_told(visitor: Visitor) -> None:
    answer = visitor.sample().choose("segment").ask()
    visitor.page.click("text=What the model wrote")
    assert visitor.page.inner_text("#tokens") == answer["text"]
    assert visitor.page.locator("#tokens .location").count() == 8
    assert visitor.page.locator("#tokens .code").count() == 32
    widths = [each["width"] for each in (part.bounding_box() for part in visitor.page.locator("#bar .stage").all()) if each]
    bar = visitor.page.locator("#bar").bounding_box()
    assert bar
    assert sum(widths) == pytest.approx(bar["width"], rel=0.02)
    decode = widths[4] / bar["width"]
    assert decode == pytest.approx(answer["timings_ms"]["decode"] / answer["timings_ms"]["total"], abs=0.05)


def test_the_session_has_a_history(visitor: Visitor) -> None:
    visitor.sample().choose("read").ask()
    visitor.sample("sign.png").choose("detect").ask()
    assert visitor.page.locator("#history-list .told").all_inner_texts()[1] == "GIFT"
    visitor.page.locator("#history-list button").nth(1).click()
    assert visitor.page.inner_text("#answer-text") == "GIFT"
    assert visitor.page.inner_text("#picture-name").startswith("scene.png")
    visitor.page.locator("#history-list button").nth(0).click()
    assert visitor.page.inner_text("#picture-name").startswith("sign.png")
    assert visitor.page.locator("#found li").count() == 2
    visitor.page.click("#clear-history")
    assert not visitor.page.is_visible("#history")


def test_what_was_asked_before_is_put_back_whole(visitor: Visitor) -> None:
    visitor.sample().choose("caption").page.click(".options summary")
    visitor.page.fill("#max_tokens", "2")
    visitor.page.check("#strict")
    visitor.ask()
    visitor.page.fill("#max_tokens", "")
    visitor.page.uncheck("#strict")
    visitor.ask()
    visitor.page.locator("#history-list button").nth(1).click()
    assert visitor.page.input_value("#max_tokens") == "2"
    request = visitor.request("curl")
    assert "max_tokens=2" in request
    assert "strict=true" in request


def test_text_is_seen_before_the_answer_ends(visit: Callable[..., Visitor], endless: Server) -> None:
    visitor = visit(endless.url).open().sample().choose("caption")
    visitor.page.click(".options summary")
    visitor.page.fill("#max_tokens", "1024")
    visitor.page.click("#ask")
    visitor.starts("a green")
    assert visitor.page.get_attribute("#results", "aria-busy") == "true"
    assert not visitor.page.is_visible("#details")
    visitor.page.click("#stop")
    assert "Stopped" in visitor.problem()
    # What came of it stays.
    assert visitor.page.inner_text("#answer-text").startswith("a green")
    assert not visitor.page.is_visible("#stop")


def test_masks_decode_as_pycocotools_does(visitor: Visitor) -> None:
    chance = random.Random(8)
    masks: list[np.ndarray[Any, np.dtype[np.uint8]]] = [np.zeros((5, 7), np.uint8), np.ones((6, 4), np.uint8), np.ones((1, 1), np.uint8)]
    for _ in range(60):
        rng = np.random.default_rng(chance.randrange(2**32))
        height, width = chance.randint(1, 90), chance.randint(1, 90)
        grain = chance.choice((1, 1, 5, 20))
        noise = rng.random((height // grain + 1, width // grain + 1)) < chance.random()
        masks.append(np.kron(noise, np.ones((grain, grain)))[:height, :width].astype(np.uint8))
    encoded = [coco.encode(np.asfortranarray(each)) for each in masks]
    cases = [[each["counts"].decode(), *each["size"]] for each in encoded]
    decode = """async ([cases, step]) => {
        const { decodeMask } = await import("/playground/run_lengths.js");
        return cases.map(([counts, height, width]) => [...decodeMask(counts, height, width, step).covered].join(""));
    }"""
    for step in (1, 3):
        for mine, theirs in zip(visitor.page.evaluate(decode, [cases, step]), masks, strict=True):
            assert mine == "".join(map(str, theirs[::step, ::step].ravel())), json.dumps(theirs.tolist())

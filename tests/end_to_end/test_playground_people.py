"""The playground for everybody: by keyboard, read aloud, in the dark, on a phone, without motion."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.end_to_end.conftest import Server
from tests.end_to_end.visitor import Visitor

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}

UNNAMED = """() => [...document.querySelectorAll("button, input, select, textarea, a, summary, fieldset, [role]")]
    .filter((each) => each.checkVisibility() && !each.closest("[aria-hidden=true]"))
    .filter((each) => {
        const labelled = (each.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent);
        const words = [each.getAttribute("aria-label"), ...labelled, ...[...(each.labels ?? [])].map((label) => label.textContent)];
        const own = each.matches("button, a, summary, fieldset, [role=status], [role=alert]") ? each.textContent : "";
        return !each.matches("[role=status]") && ![...words, own].some((word) => word?.trim());
    })
    .map((each) => each.outerHTML)"""
"""What has no name to be read aloud."""

PALE = """() => {
    const parse = (text) => {
        const [red, green, blue, opacity = 1] = text.match(/[\\d.]+/g).map(Number);
        return [red, green, blue, opacity];
    };
    const light = ([red, green, blue]) => [red, green, blue]
        .map((each) => each / 255)
        .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
        .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = parse(getComputedStyle(each).backgroundColor);
            if (colour[3] === 1) return colour;
        }
        return [255, 255, 255, 1];
    };
    const pale = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
        if (element.closest(".unseen, noscript, :has(> input:disabled)")) continue;
        const pair = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((one, other) => other - one);
        const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (contrast < 4.5) pale.push([walker.currentNode.textContent.trim(), contrast]);
    }
    return pale;
}"""
"""Text whose contrast is less than WCAG's AA asks for."""


def everything_open(visitor: Visitor) -> None:
    visitor.page.click("text=What the model wrote")
    visitor.page.click("text=The response as JSON")
    visitor.page.click(".options summary")
    for kind in ("curl", "python", "grpcurl"):
        visitor.request(kind)


def width(visitor: Visitor) -> int:
    found: int = visitor.page.evaluate("document.documentElement.scrollWidth")
    return found


def test_all_of_it_works_by_keyboard(visitor: Visitor) -> None:
    visitor.tab_to(".skip")
    visitor.tab_to(".sample")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector("#canvas:visible")
    visitor.tab_to("[name=task]")
    for _ in range(2):
        visitor.page.keyboard.press("ArrowRight")
    assert visitor.page.is_checked("#task-detect")
    visitor.tab_to("#objects")
    visitor.page.keyboard.type("star")
    visitor.page.keyboard.press("Enter")
    visitor.page.keyboard.press("Enter")
    answer = visitor.answer()
    assert answer["prompt"] == "detect purple star ; green square ; sign ; star"
    visitor.tab_to("#found input")
    assert visitor.page.locator("#found li.pointed").count() == 1
    visitor.page.keyboard.press("Space")
    assert not visitor.page.is_checked("#found input >> nth=0")
    visitor.tab_to("#request summary")
    visitor.page.keyboard.press("Enter")
    visitor.tab_to("[name=kind]")
    visitor.page.keyboard.press("ArrowRight")
    assert "FormData" in visitor.page.inner_text("#request-text")
    visitor.tab_to("#history-list button")
    visitor.page.keyboard.press("Enter")
    assert visitor.page.locator("#found li").count() == len(answer["detections"])


def test_a_region_is_chosen_by_keyboard(visitor: Visitor) -> None:
    visitor.sample("sign.png").choose("caption-region")
    for side, value in (("x_min", 260), ("y_min", 262), ("x_max", 356), ("y_max", 380)):
        visitor.page.fill(f"#{side}", str(value))
    assert visitor.ask()["caption"] == "a blue heart"
    visitor.tab_to("#canvas", "Shift+Tab")
    assert "arrow keys" in visitor.page.inner_text("#region-help")
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("ArrowUp")
    visitor.page.keyboard.press("Shift+ArrowDown")
    sides = [int(visitor.page.input_value(f"#{side}")) for side in ("x_min", "y_min", "x_max", "y_max")]
    assert sides == [273, 249, 369, 380]
    for _ in range(80):
        visitor.page.keyboard.press("ArrowLeft")
    assert visitor.page.input_value("#x_min") == "0"
    assert visitor.page.input_value("#x_max") == "96"


@pytest.mark.parametrize("task", ["caption", "answer", "detect", "segment", "read", "caption-region", "generate"])
def test_everything_has_a_name_and_enough_contrast(visit: Callable[..., Visitor], server: Server, task: str) -> None:
    for scheme in ("light", "dark"):
        visitor = visit(server.url, color_scheme=scheme).open()
        assert visitor.page.evaluate(UNNAMED) == []
        visitor.page.click("#ask")
        visitor.problem()
        assert visitor.page.evaluate(PALE) == []
        visitor.sample().choose(task).ask()
        everything_open(visitor)
        assert visitor.page.evaluate(UNNAMED) == []
        assert visitor.page.evaluate(PALE) == []


def test_what_happens_is_read_aloud(visitor: Visitor) -> None:
    visitor.sample().choose("detect")
    assert visitor.page.get_attribute("#canvas", "role") == "img"
    visitor.ask()
    assert visitor.page.get_attribute("#announcement", "aria-live") == "polite"
    assert visitor.page.inner_text("#announcement") == "Found: purple star, green square, sign"
    assert (
        visitor.page.get_attribute("#canvas", "aria-label") == "scene.png, 640 by 480 pixels, with boxes: purple star, green square, sign"
    )
    assert visitor.page.get_by_role("alert").count() == 0
    assert visitor.page.get_by_role("group", name="Task").is_visible()
    levels = visitor.page.eval_on_selector_all("h1, h2, h3", "(all) => all.map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


@pytest.mark.parametrize("task", ["caption", "detect", "segment", "caption-region", "generate"])
def test_a_phone_shows_it_without_scrolling_sideways(visit: Callable[..., Visitor], server: Server, task: str) -> None:
    visitor = visit(server.url, **PHONE).open()
    assert width(visitor) <= 360
    visitor.sample().choose(task).ask()
    everything_open(visitor)
    assert width(visitor) <= 360
    visitor.page.set_input_files("#file", {"name": f"{'long' * 40}.txt", "mimeType": "text/plain", "buffer": b"none"})
    visitor.problem()
    assert width(visitor) <= 360
    too_small = visitor.page.eval_on_selector_all(
        "button, select, input[type=text], input[type=number]",
        "(all) => all.filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 24).map((each) => each.outerHTML)",
    )
    assert too_small == []


def test_long_words_stay_on_the_page(visit: Callable[..., Visitor], server: Server) -> None:
    visitor = visit(server.url, **PHONE).open().sample().choose("detect")
    found = [
        {"label": f"{'long ' * 30}{number}", "box": {"x_min": number * 30, "y_min": 0, "x_max": 639, "y_max": 479}, "score": 0.5}
        for number in range(16)
    ]
    events = "".join(f"event: detection\ndata: {json.dumps(each)}\n\n" for each in found)
    visitor.expected = ("net::",)
    visitor.page.route("**/v1/detect", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
    visitor.page.click("#ask")
    # All that came is shown, and that it was not all.
    assert "The server went away" in visitor.problem()
    assert visitor.page.locator("#found li").count() == 16
    assert width(visitor) <= 360


def test_light_and_dark(visit: Callable[..., Visitor], server: Server) -> None:
    def ground(visitor: Visitor) -> int:
        found: str = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(found.partition("(")[2].partition(",")[0])

    visitor = visit(server.url, color_scheme="dark").open()
    assert ground(visitor) < 40
    visitor.page.click("#theme")
    assert ground(visitor) > 220
    visitor.page.reload()
    assert ground(visitor) > 220
    other = visit(server.url, color_scheme="light").open()
    assert ground(other) > 220
    other.page.emulate_media(color_scheme="dark")
    other.page.locator("#theme", has_text="Light").wait_for()
    assert ground(other) < 40


@pytest.mark.parametrize(("motion", "moving"), [("reduce", "none"), ("no-preference", "turn")])
def test_who_wants_no_motion_gets_none(visit: Callable[..., Visitor], server: Server, motion: Any, moving: str) -> None:
    visitor = visit(server.url, reduced_motion=motion).open()
    visitor.page.evaluate("document.getElementById('results').setAttribute('aria-busy', 'true')")
    assert visitor.page.evaluate("getComputedStyle(document.getElementById('status'), '::after').animationName") == moving

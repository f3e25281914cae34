"""Somebody at the playground, in a real browser; notes whatever a page must not do."""

import json
import re
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, Request

SAMPLES = Path(__file__).parents[2] / "service" / "demo" / "samples"

WAIT = 60_000
"""Milliseconds that a slow machine may take for what a page waits for."""

PIXEL = """([x, y]) => {
    const canvas = document.getElementById("canvas");
    const scale = canvas.width / Number(document.getElementById("picture-name").textContent.match(/(\\d+) × \\d+$/)[1]);
    const at = (value, most) => Math.max(0, Math.min(Math.round(value * scale), most - 1));
    const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    pen.drawImage(canvas, at(x, canvas.width), at(y, canvas.height), 1, 1, 0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}"""

FILE = "([name, type, base64]) => new File([Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))], name, { type })"


class Visitor:
    """A page of ``url``. ``wrong`` is what it did that none may; ``expected``: parts of messages that a test is about."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url.rstrip("/")
        self.wrong: list[str] = []
        self.expected: tuple[str, ...] = ()
        page.set_default_timeout(WAIT)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._watch)
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))

    def open(self) -> "Visitor":
        """The page, once it knows what is served."""
        self.page.goto(f"{self.url}/")
        return self.know_models()

    def know_models(self) -> "Visitor":
        """Once the page knows what is served."""
        self.page.locator("#model option").nth(1).wait_for(state="attached")
        return self

    def sample(self, name: str = "scene.png") -> "Visitor":
        """Pick one of the samples."""
        self.page.locator(f".sample:has(img[src$='{name}'])").click()
        return self.has(name)

    def has(self, name: str) -> "Visitor":
        """Once a picture of this name is shown."""
        self.page.locator("#picture-name", has_text=re.compile(f"^{re.escape(name)} ·")).wait_for()
        return self

    def starts(self, text: str) -> "Visitor":
        """Once the answer's text has come so far."""
        self.page.locator("#answer-text", has_text=re.compile(f"^{re.escape(text)}")).wait_for()
        return self

    def until(self, expression: str) -> None:
        """Until an expression holds. Playwright's own waiting for one would be refused, as all is that evaluates text in this page."""
        deadline = time.monotonic() + WAIT / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(20)

    def choose(self, task: str) -> "Visitor":
        """Choose a task."""
        self.page.locator(f"label:has(#task-{task})").click()
        return self

    def ask(self) -> dict[str, Any]:
        """Ask, and wait for the whole answer."""
        self.page.click("#ask")
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The answer, once it is there."""
        self.page.wait_for_selector("#results[aria-busy=false] #details:visible")
        answer: dict[str, Any] = json.loads(self.page.text_content("#json") or "")
        return answer

    def problem(self) -> str:
        """What went wrong, once it is told."""
        self.page.wait_for_selector("#problem:visible")
        return self.page.inner_text("#problem")

    def pixel(self, x: float, y: float) -> list[int]:
        """Red, green and blue of the canvas, at pixels of the picture."""
        found: list[int] = self.page.evaluate(PIXEL, [x, y])
        return found

    def request(self, kind: str) -> str:
        """The request in code."""
        if not self.page.is_visible("#request-text"):
            self.page.click("#request summary")
        self.page.locator(f"label:has(input[value={kind}])").click()
        return self.page.inner_text("#request-text")

    def tab_to(self, selector: str, key: str = "Tab") -> None:
        """Go there by keyboard alone."""
        for _ in range(80):
            self.page.keyboard.press(key)
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"no way leads to {selector}")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in self.expected):
            self.wrong.append(message.text)

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "blob:", "data:")):
            self.wrong.append(f"asked for {request.url}")


def near(one: list[int], other: tuple[int, ...] | list[int], most: int = 24) -> bool:
    """Whether two colours are alike."""
    return all(abs(mine - theirs) <= most for mine, theirs in zip(one, other, strict=True))

"""What the playground says when something is wrong: the server is away, wants a key, or refuses."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Server
from tests.end_to_end.visitor import Visitor

KEY = "the-key-of-this-test"
REFUSED = ("401 (Unauthorized)",)
AWAY = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")

KEEPS_NOTHING = """for (const kind of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, kind, { get() { throw new DOMException("Access is denied.", "SecurityError"); } });
}"""
"""As browsers do that are told to keep nothing of a page."""


@pytest.fixture
def keyed() -> Iterator[Server]:
    """A server that wants a key."""
    running = Server(environ={"PALISERVE_ADMIN_KEY": KEY, "PALISERVE_ANONYMOUS": "false"})
    running.client.headers["authorization"] = f"Bearer {KEY}"
    yield running
    running.close()


def give_key(visitor: Visitor, key: str) -> None:
    visitor.page.wait_for_selector("#key:visible")
    assert visitor.page.evaluate("document.activeElement.id") == "key"
    visitor.page.keyboard.type(key)
    visitor.page.keyboard.press("Enter")


def test_a_key_is_asked_for_and_kept_in_the_tab(visit: Callable[..., Visitor], keyed: Server) -> None:
    visitor = visit(keyed.url)
    visitor.expected = REFUSED
    visitor.page.goto(keyed.url)
    assert "This server wants a key" in visitor.problem()
    give_key(visitor, "ключ")
    visitor.page.wait_for_selector("text=A key has no such letters")
    give_key(visitor, "another key")
    visitor.page.wait_for_selector("text=This key is not known here.")
    give_key(visitor, KEY)
    visitor.know_models()
    assert not visitor.page.is_visible("#key-form")
    assert not visitor.page.is_visible("#problem")
    assert visitor.sample().choose("read").ask()["text_read"] == "GIFT"
    # It is never written out, nor kept where other tabs find it.
    assert all(KEY not in visitor.request(kind) for kind in ("curl", "fetch", "python", "grpcurl"))
    assert "PALISERVE_KEY" in visitor.request("curl")
    assert KEY not in visitor.page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
    visitor.page.reload()
    visitor.know_models()
    visitor.page.click("#forget-key")
    assert visitor.page.evaluate("sessionStorage.length") == 0
    visitor.sample().page.click("#ask")
    give_key(visitor, KEY)
    # What was asked is asked again.
    assert "a green square" in visitor.answer()["caption"]


def test_a_browser_that_keeps_nothing_still_shows_the_page(visit: Callable[..., Visitor], keyed: Server) -> None:
    visitor = visit(keyed.url)
    visitor.expected = REFUSED
    visitor.page.add_init_script(KEEPS_NOTHING)
    visitor.page.goto(keyed.url)
    give_key(visitor, KEY)
    visitor.know_models().page.click("#theme")
    assert visitor.sample().choose("read").ask()["text_read"] == "GIFT"


def test_a_server_that_is_away_is_told(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    running = Server()
    visitor = visit(running.url).open().sample()
    visitor.expected = AWAY
    visitor.ask()
    running.close()
    visitor.page.click("#ask")
    assert "The server cannot be reached" in visitor.problem()
    with visitor.page.expect_event("requestfailed"):
        visitor.page.click("#again")
    assert "The server cannot be reached" in visitor.problem()
    visitor.page.locator(".sample").nth(1).click()
    visitor.page.wait_for_selector("text=cannot be fetched")


def test_a_server_that_goes_away_in_the_middle_is_told(visit: Callable[..., Visitor], endless_settings: Path) -> None:
    running = Server("--config", str(endless_settings))
    running.books_balance = False
    visitor = visit(running.url).open().sample()
    visitor.expected = AWAY
    visitor.page.click(".options summary")
    visitor.page.fill("#max_tokens", "1024")
    visitor.page.click("#ask")
    visitor.starts("a green")
    running.stop(signal.SIGKILL)
    problem = visitor.problem()
    running.close()
    assert "The server went away" in problem
    assert "before the answer was complete" in problem
    assert visitor.page.inner_text("#answer-text").startswith("a green")
    assert visitor.page.is_visible("#again")
    assert visitor.page.get_attribute("#results", "aria-busy") == "false"


def test_what_the_server_refuses_is_told_in_its_words(visitor: Visitor) -> None:
    visitor.expected = ("422 (Unprocessable",)
    visitor.sample().choose("detect")
    visitor.page.click(".options summary")
    visitor.page.fill("#temperature", "3")
    visitor.page.click("#ask")
    assert "temperature" in visitor.problem()
    visitor.page.fill("#temperature", "")
    assert visitor.ask()["detections"]
    assert not visitor.page.is_visible("#problem")


@pytest.mark.parametrize("body", ["<html><b>Bad Gateway</b></html>", '{"message": "Bad Gateway</b>"}'])
def test_what_a_proxy_says_is_told(visitor: Visitor, body: str) -> None:
    visitor.expected = ("502",)
    visitor.page.route("**/v1/caption", lambda route: route.fulfill(status=502, body=body))
    visitor.sample().page.click("#ask")
    assert "502" in visitor.problem()
    assert "Bad Gateway</b>" not in visitor.problem()
    assert "undefined" not in visitor.problem()


def test_a_list_of_models_that_is_none_is_told(visit: Callable[..., Visitor], server: Server) -> None:
    visitor = visit(server.url)
    visitor.page.route("**/v1/models", lambda route: route.fulfill(body="<html>Sign in first</html>"))
    visitor.page.goto(server.url)
    assert "The models cannot be listed" in visitor.problem()
    visitor.page.unroute("**/v1/models")
    visitor.page.click("#again")
    visitor.know_models()


def test_when_it_is_worth_asking_again_is_told(visitor: Visitor) -> None:
    visitor.expected = ("503",)
    # As the server says it where it can: in the header.
    document, headers = '{"title": "Overloaded", "detail": "The queue is full.", "code": "overloaded"}', {"retry-after": "2"}
    visitor.page.route("**/v1/caption", lambda route: route.fulfill(status=503, body=document, headers=headers))
    visitor.sample().page.click("#ask")
    assert "The queue is full. Ask again in 2 s." in visitor.problem()
    visitor.page.unroute("**/v1/caption")
    visitor.page.click("#again")
    assert visitor.answer()["caption"]


@pytest.mark.parametrize(
    ("task", "sentence", "focused"),
    [
        ("answer", "Write a question first.", "question"),
        ("detect", "Name at least one object first.", "objects"),
        ("caption-region", "Drag a box on the picture first, or write its four sides.", "x_min"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_sent(visitor: Visitor, sample: bytes, task: str, sentence: str, focused: str) -> None:
    visitor.choose(task).page.click("#ask")
    assert "There is no picture yet" in visitor.problem()
    visitor.page.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": sample})
    visitor.page.wait_for_selector("#canvas:visible")
    visitor.page.click("#ask")
    assert sentence in visitor.problem()
    assert visitor.page.evaluate("document.activeElement.id") == focused


def test_a_later_question_stands_for_an_earlier_one(visit: Callable[..., Visitor], endless: Server) -> None:
    visitor = visit(endless.url).open().sample()
    visitor.page.click(".options summary")
    visitor.page.fill("#max_tokens", "1024")
    visitor.page.click("#ask")
    visitor.starts("a green")
    visitor.page.fill("#max_tokens", "3")
    visitor.choose("read").page.click("#ask")
    assert visitor.answer()["task"] == "read"
    assert visitor.page.locator("#history-list li").count() == 1
    assert not visitor.page.is_visible("#problem")


def test_another_picture_ends_the_question_without_a_word(visit: Callable[..., Visitor], endless: Server) -> None:
    visitor = visit(endless.url).open().sample()
    visitor.page.click(".options summary")
    visitor.page.fill("#max_tokens", "1024")
    visitor.page.click("#ask")
    visitor.starts("a green")
    visitor.sample("sign.png").page.wait_for_selector("#stop", state="hidden")
    assert visitor.page.is_visible("#no-answer")
    assert not visitor.page.is_visible("#problem")


def test_nothing_found_is_told(visitor: Visitor) -> None:
    answer = visitor.sample().choose("detect").ask()
    events = f"event: result\ndata: {json.dumps(answer | {'detections': [], 'text': ''})}\n\n"
    visitor.page.route("**/v1/detect", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
    visitor.ask()
    assert visitor.page.inner_text("#nothing") == "Nothing of it was found in this picture."
    assert visitor.page.inner_text("#announcement") == "Nothing was found."
    assert not visitor.page.is_visible("#found-area")

"""A record is a line, whatever it says."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from service.observability.logs import LONGEST, JsonLine, OneLine, configure, escape, request_id

HOSTILE = [
    "a\nb",
    "a\r\nb",
    "\x1b[31mred",
    "\x00",
    "\u2028line",
    "\x85next",
    "\u202eflip",
    "half \ud83d",
    "x" * 100_000,
    "%s %d",
    "\N{SNOWMAN}\v\f",
]


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    caught = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("service.x", logging.WARNING, "x.py", 1, message, arguments, caught)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1) if levels % 2 else other(levels - 1)
    raise ValueError("the reason at the end")


def other(levels: int) -> None:
    deep(levels)


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root, kept = (
        logging.getLogger(),
        {name: logging.getLogger(name).level for name in ("", "PIL", "grpc", "httpx", "urllib3", "filelock", "transformers", "uvicorn")},
    )
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    for name, level in kept.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_begins_a_line_of_its_own(text: str) -> None:
    for line in (
        OneLine().format(record("%s", text)),
        JsonLine().format(record("%s", text)),
        OneLine().format(record("x", error=raised(ValueError(text)))),
    ):
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert len(line) < 2 * LONGEST + 500
        line.encode()


def test_one_line() -> None:
    time, level, text = OneLine().format(record("hello %s", "you")).split(" ", 2)
    assert time.endswith("Z")
    assert (len(time), level, text) == (24, "warning", "hello you")


def test_a_line_makes_room_where_a_bar_may_be_drawn() -> None:
    plain, over = (OneLine(over).format(record("hello")) for over in (False, True))
    assert plain.endswith("warning hello")
    assert (over[:4], over.split(" ", 1)[1]) == ("\r\033[K", plain.split(" ", 1)[1])


def test_a_json_line() -> None:
    entry = json.loads(JsonLine().format(record("hello %s", "é\n")))
    assert set(entry) == {"time", "level", "logger", "message"}
    assert (entry["level"], entry["logger"], entry["message"]) == ("warning", "service.x", "hello é\n")


def test_the_request_is_named() -> None:
    token = request_id.set("abc")
    try:
        assert OneLine().format(record("x")).endswith("warning x [abc]")
        assert json.loads(JsonLine().format(record("x")))["request_id"] == "abc"
    finally:
        request_id.reset(token)
    assert OneLine().format(record("x")).endswith("warning x")


def test_an_exception_is_folded_in_and_keeps_its_end() -> None:
    short = raised(ValueError("the reason at the end"))
    with pytest.raises(ValueError, match="the reason") as caught:
        deep(200)
    for error in (short, caught.value):
        line = OneLine().format(record("failed", error=error))
        assert " warning failed | " in line
        assert line.endswith("ValueError: the reason at the end")
        assert json.loads(JsonLine().format(record("failed", error=error)))["exception"].endswith("ValueError: the reason at the end")


def test_escape_leaves_what_can_be_read() -> None:
    assert escape("plain é 😀 \\n") == "plain é 😀 \\n"
    assert escape("a\tb\n") == "a\\tb\\n"
    assert escape("\x1b") == "\\x1b"


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_configure(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure(log_format, "info")
    logging.getLogger("service.x").info("seen")
    logging.getLogger("service.x").debug("unseen")
    logging.getLogger("PIL.Image").error("unseen")
    logging.getLogger("uvicorn.error").info("unseen")
    (line,) = stream.getvalue().splitlines()
    assert (json.loads(line)["message"] if log_format == "json" else line.split(" ", 2)[2]) == "seen"

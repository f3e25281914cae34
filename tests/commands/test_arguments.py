"""How a command takes its arguments."""

import argparse

import pytest

from service.commands.arguments import CommandParser


@pytest.fixture
def parser() -> CommandParser:
    made = CommandParser(prog="ask")
    made.add_argument("images", nargs="+")
    made.add_argument("prompt")
    made.add_argument("--save")
    made.add_argument("--json", action="store_true")
    return made


@pytest.mark.parametrize(
    "given",
    [
        "a b ocr --json --save x",
        "--json --save x a b ocr",
        "a b --json --save x ocr",
        "a --save=x b --json ocr",
        "a --json b ocr --save x",
    ],
)
def test_options_stand_anywhere(parser: CommandParser, given: str) -> None:
    assert parser.parse_args(given.split()) == argparse.Namespace(images=["a", "b"], prompt="ocr", save="x", json=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [("a", "required"), ("a ocr --jsn", "did you mean --json?"), ("a ocr --nothing=1", "--nothing=1 is not known here.")],
)
def test_what_is_wrong_is_told(parser: CommandParser, given: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(given.split())
    told = capsys.readouterr().err
    assert told.startswith("usage: ask")
    assert words in told

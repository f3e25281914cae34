"""``paliserve ask``: a question about pictures, in this process, without a server."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.commands.arguments import Commands, add_config, examples, is_file, settings_of
from service.commands.loading import Loading
from service.commands.output import coloured, print_beside, progress
from service.commands.pictures import STANDARD_INPUT, Found, find, targets
from service.observability.logs import escape

if TYPE_CHECKING:
    from service.asking import Answer


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "ask",
        help="ask about pictures, in this process, without a server",
        description="Ask about one picture or many, in this process, without a server. Bad files are told of, and the others answered.",
        epilog=examples(
            "paliserve ask photo.jpg 'caption en'",
            "paliserve ask photo.jpg 'detect cat ; dog' --save found.png",
            "paliserve ask *.jpg 'segment cat' --save drawn/        one drawn picture each, in a folder that is made",
            "paliserve ask 'photos/**/*.png' ocr --json             a JSON object a line, each with its file",
            "curl -s https://example.com/cat.jpg | paliserve ask - 'answer en what color is the cat?'",
        ),
    )
    is_file(
        parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder of pictures, a pattern, or - for standard input")
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", help='any prefix: "caption en", "detect red circle ; sign", "answer en what color is it?"'
    )
    parser.add_argument("--model", metavar="NAME", help="name of the instance (the first one)")
    told = "draw the boxes and masks into this picture, or one picture each into this folder: an existing one, or with / at its end"
    is_file(parser.add_argument("--save", metavar="FILE|FOLDER/", help=told))
    parser.add_argument(
        "--json", action="store_true", help="print whole responses as JSON: one a line, with its file, where there are several"
    )
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    settings = settings_of(asked)
    found = find(asked.images)
    for each in found.problems:
        _complain(each)
    if not found.names:
        return 1
    saved = targets(found.names, asked.save, found.several)
    with Loading() as loading:
        # Seconds.
        from service.asking import Picture, Question, ask  # noqa: PLC0415

        pictures = [Picture(name, _file(name), save) for name, save in zip(found.names, saved, strict=True)]
        said = _Said(found, asked.json, loading)
        try:
            ask(settings, Question(asked.prompt, asked.model), pictures, loading, said.answered)
        finally:
            said.close()
    return 1 if said.failed or found.problems else 0


class _Said:
    """Prints the answers, and counts those that failed."""

    def __init__(self, found: Found, as_json: bool, loading: Loading) -> None:
        self._found = found
        self._as_json = as_json
        self._loading = loading
        self._bar: Any = None
        self.failed = 0

    def answered(self, answer: "Answer") -> None:
        """Print one, in order."""
        if self._bar is None:
            self._loading.close()
            self._bar = progress("asking", len(self._found.names) if self._found.several else None, " pictures")
        if answer.response is None:
            self.failed += 1
            print_beside(self._bar, _complaint(f"{answer.name}: {answer.error}"), sys.stderr)
        else:
            for line in self._lines(answer.name, answer.response):
                print_beside(self._bar, line)
        self._bar.update()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _lines(self, name: str, response: dict[str, Any]) -> Iterator[str]:
        if self._as_json:
            yield json.dumps({"file": name, **response}) if self._found.several else json.dumps(response, indent=2)
            return
        for line in _told(response):
            yield f"{coloured(escape(name), 'faint')}\t{line}" if self._found.several else line


def _told(response: dict[str, Any]) -> Iterator[str]:
    """The text, or the boxes one a line where there are any."""
    found = [*response["detections"], *response["segments"]]
    if not found:
        yield response["text"]
    for each in found:
        box = each["box"]
        corners = f"{box['x_min']:.0f} {box['y_min']:.0f} {box['x_max']:.0f} {box['y_max']:.0f}"
        yield f"{coloured(each['label'], 'green')}\t{corners}\t{coloured(f'''{each['score']:.2f}''', 'faint')}"


def _file(name: str) -> Path | None:
    return None if name == STANDARD_INPUT else Path(name)


def _complaint(text: str) -> str:
    return f"{coloured('paliserve:', 'red', sys.stderr)} {escape(text)}"


def _complain(text: str) -> None:
    print(_complaint(text), file=sys.stderr)

"""``paliserve ask``: one question about one picture, in this process, without a server."""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from service.commands.arguments import Commands, add_config, settings_of
from service.errors import OperatorError


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser("ask", help="ask about one picture, in this process, without a server")
    parser.add_argument("image", type=Path)
    parser.add_argument("prompt", help='any prefix: "caption en", "detect red circle ; sign", "answer en what color is the star?"')
    parser.add_argument("--model", help="name of the instance")
    parser.add_argument("--save", type=Path, metavar="FILE", help="draw the boxes and masks into this picture")
    parser.add_argument("--json", action="store_true", help="print the whole response as JSON")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    settings = settings_of(asked)
    try:
        image = asked.image.read_bytes()
    except OSError as error:
        raise OperatorError(f"{asked.image}: {error.strerror or 'cannot be read'}.") from None
    from service.asking import ask  # noqa: PLC0415

    response = asyncio.run(ask(settings, image, asked.prompt, asked.model, asked.save))
    if asked.json:
        print(json.dumps(response, indent=2))
    else:
        _print_response(response)
    return 0


def _print_response(response: dict[str, Any]) -> None:
    """The text, or the boxes one a line where there are any."""
    found = [*response["detections"], *response["segments"]]
    if not found:
        print(response["text"])
    for each in found:
        box = each["box"]
        print(f"{each['label']}\t{box['x_min']:.0f} {box['y_min']:.0f} {box['x_max']:.0f} {box['y_max']:.0f}\t{each['score']:.2f}")

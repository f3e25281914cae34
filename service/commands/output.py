"""What commands write to the terminal: tables, colours and progress."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Never, TextIO

from tqdm import tqdm

from service.observability.logs import is_terminal

COLOURS = {"green": 32, "yellow": 33, "red": 31, "bold": 1, "faint": 2}


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in one of ``COLOURS`` where ``stream`` (standard output) is a terminal, and nobody asked for none: https://no-color.org."""
    plain = not is_terminal(stream or sys.stdout) or bool(os.environ.get("NO_COLOR"))
    return text if plain else f"\033[{COLOURS[colour]}m{text}\033[0m"


def progress(description: str, total: float | None, unit: str) -> "tqdm[Never]":
    """A bar on standard error, where that is a terminal; nothing is drawn elsewhere."""
    quiet = not is_terminal(sys.stderr)
    return tqdm(desc=description, total=total, unit=unit, unit_scale=unit == "B", file=sys.stderr, disable=quiet, dynamic_ncols=True)


def print_beside(bar: "tqdm[Never]", text: str, stream: TextIO | None = None) -> None:
    """A line to ``stream`` (standard output), at once, which the bar makes room for."""
    target = stream or sys.stdout
    if bar.disable:
        print(text, file=target, flush=True)
    else:
        bar.write(text, file=target)
        target.flush()


def print_table(rows: Sequence[Sequence[str]], colours: Mapping[str, str] | None = None) -> None:
    """Columns as wide as what stands in them; the first row is the head. ``colours``: of cells, by what stands in them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = [
            coloured(cell.ljust(width), (colours or {})[cell]) if cell in (colours or {}) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        text = "  ".join(line).rstrip()
        print(text if number else coloured(text, "bold"))

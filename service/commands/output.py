"""What commands write to the terminal: tables, colours and progress."""

import os
import sys
from collections.abc import Sequence
from typing import Never, TextIO

from tqdm import tqdm

COLOURS = {"green": 32, "yellow": 33, "red": 31, "bold": 1, "faint": 2}


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in one of ``COLOURS`` where ``stream`` (standard output) is a terminal, and nobody asked for none: https://no-color.org."""
    target = stream or sys.stdout
    plain = not target.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return text if plain else f"\033[{COLOURS[colour]}m{text}\033[0m"


def progress(description: str, total: float | None, unit: str) -> "tqdm[Never]":
    """A bar on standard error, where that is a terminal; nothing is drawn elsewhere."""
    return tqdm(desc=description, total=total, unit=unit, unit_scale=unit == "B", file=sys.stderr, disable=None, dynamic_ncols=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what stands in them; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

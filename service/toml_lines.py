"""Where a setting stands in the text of a TOML file: what a parser does not tell."""

import re
from collections.abc import Sequence


def place(location: Sequence[str | int]) -> tuple[tuple[str | int, ...], str]:
    """The table of TOML that a setting belongs to, and its key. What comes after are pydantic's names for the kinds that were tried."""
    depth = 0
    if location[0] == "instances" and len(location) > 2:
        depth = 4 if location[2] == "adapters" and len(location) > 4 else 2
    return tuple(location[:depth]), str(location[depth])


def line_of(text: str, location: Sequence[str | int]) -> str:
    """Where a key stands in TOML, as ``:12``; where it is missing, its table. ``location``: ("port",) or ("instances", 1, "dtype")."""
    wanted, key = place(location)
    table: tuple[str | int, ...] = ()
    instance = adapter = -1
    nearest = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[\s*(instances(?:\.adapters)?)\s*\]\]", line)
        if header:
            instance, adapter = (instance + 1, -1) if header[1] == "instances" else (instance, adapter + 1)
            table = ("instances", instance) if adapter < 0 else ("instances", instance, "adapters", adapter)
            nearest = f":{number}" if table == wanted[: len(table)] else nearest
        elif table == wanted[: len(table)] and re.match(rf"""\s*["']?{re.escape(key if table == wanted else "adapters")}["']?\s*=""", line):
            if table == wanted:
                return f":{number}"
            nearest = f":{number}"
    return nearest

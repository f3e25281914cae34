"""What the processes of a server hold: memory, files, threads; and what it says of itself."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.bench.http_connection import Connection
from service.bench.http_framing import get

KIB = 1024


@dataclass(frozen=True, slots=True)
class Holding:
    """Of one process or of several. ``pss``: bytes, of which shared ones count in part for each who shares them; ``rss``: all of them."""

    rss: int
    pss: int
    files: int
    threads: int

    def __add__(self, other: "Holding") -> "Holding":
        return Holding(self.rss + other.rss, self.pss + other.pss, self.files + other.files, self.threads + other.threads)


NOTHING = Holding(0, 0, 0, 0)


def holdings(leader: int) -> dict[str, Holding]:
    """All processes of the group, by role: the one who reads and answers leads it, ``workers`` run models, and there are others."""
    found: dict[str, Holding] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) != leader:
                continue
            held = _held(folder)
            role = "front" if int(folder.name) == leader else _role((folder / "cmdline").read_bytes())
        except (OSError, ProcessLookupError):
            continue
        found[role] = found.get(role, NOTHING) + held
    return found


def _role(command: bytes) -> str:
    # The server that forks the others has their command line, and no model: what it holds is theirs.
    return "tracker" if b"resource_tracker" in command else "workers"


def _held(folder: Path) -> Holding:
    sizes = {
        name: int(rest.split()[0]) * KIB
        for name, _, rest in (line.partition(":") for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
        if name in {"Rss", "Pss"}
    }
    return Holding(sizes["Rss"], sizes["Pss"], len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir())))


async def scraped(port: int) -> Mapping[str, float]:
    """``/metrics``: the value of each series by its name with its labels."""
    connection = Connection(port)
    try:
        _, body = await connection.ask(get("/metrics"))
    finally:
        connection.close()
    lines = (line.rpartition(" ") for line in body.decode().splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def total(series: Mapping[str, float], name: str, label: str = "") -> float:
    """The sum of a metric's series, of those with a label such as ``code="ok"`` where one is given."""
    return sum(value for key, value in series.items() if key.partition("{")[0] == name and label in key)

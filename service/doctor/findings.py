"""What a check says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from service.settings import Settings


class Level(StrEnum):
    """As it should be; works, but not as well as it could; does not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence, and what to do where it is not a good one. ``about``: the check's name, which is given to it by who runs the check."""

    level: Level
    said: str
    mend: str = ""
    about: str = ""


Check = Callable[[Settings], Iterable[Finding]]


def fine(said: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, said)


def warning(said: str, mend: str) -> Finding:
    """Works, but not as well as it could."""
    return Finding(Level.WARNING, said, mend)


def problem(said: str, mend: str) -> Finding:
    """Does not work."""
    return Finding(Level.PROBLEM, said, mend)

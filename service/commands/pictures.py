"""Which pictures a command is asked about, and where each is to be drawn."""

import glob
import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from service.errors import OperatorError
from service.picture_files import is_pattern, named

WRITTEN_AS = frozenset((".jpg", ".jpeg", ".png", ".webp"))
"""Suffixes that a drawn picture keeps; others become PNG."""

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Found:
    """Names of files in the order in which they were asked for, and a sentence for each argument that names none.

    ``several``: whether more than one file was asked for, or might have been: by a pattern or a folder.
    """

    names: tuple[str, ...]
    problems: tuple[str, ...]
    several: bool


def find(asked: Sequence[str]) -> Found:
    """``asked``: files, ``-``, folders of pictures, and patterns, which a shell leaves to us where they are quoted."""
    names: dict[Path, str] = {}
    problems = []
    for each in asked:
        try:
            found = _named(each)
        except OSError as error:
            problems.append(f"{each}: {error.strerror or 'cannot be read'}.")
            continue
        names |= {Path(name).resolve(): name for name in found if Path(name).resolve() not in names}
        if not found:
            problems.append(f"{each}: {_missing(each)}.")
    several = len(asked) > 1 or (asked[0] != STANDARD_INPUT and is_pattern(asked[0]))
    return Found(tuple(names.values()), tuple(problems), several)


def targets(names: Sequence[str], save: str | None, several: bool) -> Sequence[Path | None]:
    """Where each picture is drawn: into the file ``save``, or one each into the folder of that name, which is made.

    Errors: OperatorError.
    """
    if save is None:
        return [None] * len(names)
    folder = Path(save)
    if not (os.path.isdir(save) or save.endswith(("/", "\\"))):
        if several:
            raise OperatorError(f"--save {save}: several pictures need a folder: --save {save}/ makes it.")
        return [folder]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"--save {save}: {error.strerror or 'the folder cannot be made'}.") from None
    asked = {Path(name).resolve() for name in names}
    made: dict[Path, str] = {}
    for name in names:
        made[_free(folder, name, made.keys() | asked)] = name
    return list(made)


def _free(folder: Path, name: str, taken: AbstractSet[Path]) -> Path:
    """A file of the folder that none of the others is drawn into, and that is none of those that were asked about."""
    path = Path("picture.png" if name == STANDARD_INPUT else name)
    suffix = path.suffix if path.suffix.lower() in WRITTEN_AS else ".png"
    candidates = (folder.resolve() / f"{path.stem}{number}{suffix}" for number in chain([""], (f"-{each}" for each in count(2))))
    return next(each for each in candidates if each not in taken)


def _named(asked: str) -> list[str]:
    """Errors: OSError."""
    return [asked] if asked == STANDARD_INPUT else named(asked)


def _missing(asked: str) -> str:
    if os.path.isdir(asked):
        return "the folder holds no picture"
    if glob.has_magic(asked):
        return "no file is named so"
    try:
        Path(asked).stat()
    except OSError as error:
        return error.strerror or "cannot be read"
    return "not a file"

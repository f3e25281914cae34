"""Which pictures a command is asked about, and where each is to be drawn."""

import glob
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from service.errors import OperatorError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
"""Of what is taken of a folder."""

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
        found = list(_named(each))
        names |= {Path(name).resolve(): name for name in found if Path(name).resolve() not in names}
        if not found:
            problems.append(f"{each}: {_missing(each)}.")
    plain = len(asked) == 1 and not _is_many(asked[0])
    return Found(tuple(names.values()), tuple(problems), not plain)


def targets(names: Sequence[str], save: str | None, several: bool) -> Sequence[Path | None]:
    """Where each picture is drawn: into the file ``save``, or one each into the folder of that name, which is made.

    Errors: OperatorError.
    """
    if save is None:
        return [None] * len(names)
    folder = Path(save)
    if not (folder.is_dir() or save.endswith(("/", "\\"))):
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


def _named(asked: str) -> Iterator[str]:
    if asked == STANDARD_INPUT or Path(asked).is_file():
        yield asked
    elif Path(asked).is_dir():
        yield from sorted(str(each) for each in Path(asked).iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
    elif glob.has_magic(asked):
        yield from sorted(each for each in glob.iglob(asked, recursive=True) if Path(each).is_file())


def _is_many(asked: str) -> bool:
    return asked != STANDARD_INPUT and not Path(asked).is_file() and (Path(asked).is_dir() or glob.has_magic(asked))


def _missing(asked: str) -> str:
    if Path(asked).is_dir():
        return "the folder holds no picture"
    if glob.has_magic(asked):
        return "no file is named so"
    try:
        Path(asked).stat()
    except OSError as error:
        return error.strerror or "cannot be read"
    return "not a file"

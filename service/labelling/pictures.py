"""The pictures of a folder and of the folders in it."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import OperatorError
from service.picture_files import SUFFIXES


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A file that is called a picture. ``name`` is its path below the folder, with forward slashes.

    ``size`` in bytes and ``modified`` in nanoseconds since 1970 tell whether it is still the same.
    """

    name: str
    path: Path
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Found:
    """``pictures`` in the order of their names; ``unreadable``: by name, why a picture or a folder cannot be read."""

    pictures: tuple[PictureFile, ...]
    unreadable: dict[str, str]


def find_pictures(folder: Path) -> Found:
    """All pictures, told by their suffix. What is hidden (``.name``) is passed over, and so is what is no plain file.

    Links are followed; a file that can be reached in several ways is one picture, under its own name before a link's.

    Errors: OperatorError.
    """
    unreadable: dict[str, str] = {}
    reached: dict[Path, PictureFile] = {}
    try:
        root = folder.resolve(strict=True)
        os.scandir(root).close()
    except (OSError, RuntimeError) as error:
        raise OperatorError(f"{folder}: {_reason(error)}.") from None
    for path in _files(root, unreadable):
        name = path.relative_to(root).as_posix()
        try:
            real, status = path.resolve(strict=True), path.stat()
        except (OSError, RuntimeError) as error:
            unreadable[name] = f"{_reason(error)}."
            continue
        other = reached.get(real)
        if other is None or (path != real, name) < (other.path != real, other.name):
            reached[real] = PictureFile(name, path, status.st_size, status.st_mtime_ns)
    return Found(tuple(sorted(reached.values(), key=lambda each: each.name)), unreadable)


def _files(root: Path, unreadable: dict[str, str]) -> Iterator[Path]:
    """Files that are called pictures. Each folder is read once, where it is before where a link shows it: so a loop of links ends."""
    folders, linked = [root], deque[Path]()
    seen = set()
    while folders or linked:
        folder = folders.pop() if folders else linked.popleft()
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda each: each.name)
        except OSError as error:
            unreadable[folder.relative_to(root).as_posix()] = f"{_reason(error)}."
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if os.path.isdir(path):
                (linked if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in SUFFIXES and (os.path.isfile(path) or not os.path.exists(path)):
                yield path


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "cannot be read"

"""Files that are read anew when they change, while the process serves."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from service.errors import OperatorError

logger = logging.getLogger(__name__)

LOOKED_AT_EVERY = 1.0
"""Seconds."""

T = TypeVar("T")


class Watched(Generic[T]):
    """What some files say. Where they become unusable, what they said before stays in force."""

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        """Errors: those of ``read``."""
        self._files = tuple(files)
        self._read = read
        # Before reading: what changes meanwhile is seen at the next look.
        self._seen = self._marks()
        self.value = read()

    def look(self) -> None:
        """Read the files again if they are others than at the last look. On any thread."""
        marks = self._marks()
        if marks == self._seen:
            return
        self._seen = marks
        names = ", ".join(map(str, self._files))
        try:
            self.value = self._read()
        except OperatorError as error:
            logger.error("what %s said before stays in force: %s", names, error)
        else:
            logger.info("%s: read anew", names)

    def _marks(self) -> list[tuple[int, int, int, int] | None]:
        return [_mark(each) for each in self._files]


def _mark(file: Path) -> tuple[int, int, int, int] | None:
    """Of the file behind all links: Kubernetes swaps a link to change what a volume holds."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_dev, found.st_ino, found.st_size


async def keep_looking(watched: Sequence[Watched[Any]]) -> None:
    """Until cancelled."""
    while watched:
        await asyncio.sleep(LOOKED_AT_EVERY)
        for each in watched:
            try:
                # A volume may hang, and must not stop the event loop.
                await asyncio.to_thread(each.look)
            except Exception:
                logger.exception("unforeseen")

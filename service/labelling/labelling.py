"""One run over a folder: many pictures at once, each written down as it is answered, the whole put in place at the end."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service import errors
from service.errors import OperatorError
from service.labelling import coco, journal
from service.labelling.labelled import Labelled
from service.labelling.pictures import PictureFile, find_pictures
from service.labelling.prompt import LabelPrompt

MOST_BYTES = 100_000_000
"""Of a file that is read at all."""

MOST_TRIES = 3
"""For one picture, on which the model fails or takes too long."""

PATIENCE = 300.0
"""Seconds without any answer after which a model that refuses, or is away, is not waited for any longer."""

PASSING = (errors.Overloaded, errors.RateLimited, errors.ModelNotReady, errors.Draining)
FAILED = (errors.GenerationFailed, errors.DeadlineExceeded)
TOO_LARGE = (errors.ImageTooLarge, errors.RequestTooLarge)


class Labeller(Protocol):
    """Who labels: a model here, or one of a server."""

    async def identity(self) -> Mapping[str, str]:
        """Its ``model``, ``source`` and ``dtype``, by which its answers are told from another one's. Errors: OperatorError."""
        ...

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Ready to label until the block is left. Errors: PaliServeError, OperatorError."""
        ...

    async def label(self, image: bytes) -> Labelled:
        """Errors: PaliServeError, OperatorError."""
        ...


class Watcher(Protocol):
    """Who is told how it goes."""

    def began(self, pictures: int, done: int) -> None:
        """So many are there, and so many of them were done before."""
        ...

    def labelled(self) -> None:
        """One more is done."""
        ...

    def skipped(self, name: str, reason: str) -> None:
        """A file, or a folder, cannot be labelled."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What to label, and how: ``concurrent`` pictures at once, and no objects below ``min_score`` in ``out``."""

    folder: Path
    prompt: LabelPrompt
    out: Path
    concurrent: int
    min_score: float = 0.0
    anew: bool = False

    @property
    def journal(self) -> Path:
        """Of what was answered so far."""
        return self.out.with_name(f"{self.out.name}.journal")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``out`` holds."""

    pictures: int
    objects: int
    skipped: int


async def label_folder(order: Order, labeller: Labeller, watcher: Watcher) -> Outcome:
    """Label what is not labelled yet, and write all of it. Errors: PaliServeError, OperatorError; then the same goes on from there."""
    found = find_pictures(order.folder)
    if not found.pictures and not found.unreadable:
        raise OperatorError(f"{order.folder}: there is no picture in it.")
    if order.out.is_dir():
        raise OperatorError(f"{order.out} is a folder: name a file, such as {order.out / 'coco.json'}.")
    if order.out.exists() and not order.journal.exists() and not order.anew:
        raise OperatorError(
            f"{order.out} was not made here: {order.journal.name} is not beside it. Name another --out, or replace it with --anew."
        )
    for name, reason in found.unreadable.items():
        watcher.skipped(name, reason)
    asked = {"prompt": order.prompt.text, **await labeller.identity()}
    with journal.opened(order.journal, asked, order.anew) as kept:
        answers = {each.name: kept.find(each) for each in found.pictures}
        left = [each for each in found.pictures if answers[each.name] is None]
        watcher.began(len(found.pictures), sum(isinstance(each, Labelled) for each in answers.values()))
        for name, answer in answers.items():
            if isinstance(answer, str):
                watcher.skipped(name, answer)
        if left:
            async with labeller.opened():
                await _Run(labeller, kept, watcher).over(left, order.concurrent)
        labelled = {each.name: one for each in found.pictures if isinstance(one := kept.find(each), Labelled)}
        told = coco.document(order.prompt, asked["model"], labelled, order.min_score)
        try:
            coco.write(told, order.out)
        except OSError as error:
            raise OperatorError(f"{order.out}: {error.strerror or 'cannot be written'}.") from None
    skipped = len(found.unreadable) + len(found.pictures) - len(labelled)
    return Outcome(len(labelled), len(told["annotations"]), skipped)


class _Run:
    """Asks about pictures."""

    def __init__(self, labeller: Labeller, kept: journal.Journal, watcher: Watcher) -> None:
        self._labeller = labeller
        self._kept = kept
        self._watcher = watcher
        self._answered = time.monotonic()

    async def over(self, pictures: list[PictureFile], concurrent: int) -> None:
        """Errors: those that are about more than a picture."""
        left = iter(pictures)
        self._answered = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrent, len(pictures))):
                    group.create_task(self._work(left))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _work(self, left: Iterator[PictureFile]) -> None:
        for picture in left:
            try:
                labelled = await self._asked(await asyncio.to_thread(_read, picture))
            except (*FAILED, *TOO_LARGE, errors.InvalidImage) as error:
                # What is no picture never will be one; the rest may come out otherwise the next time.
                if isinstance(error, errors.InvalidImage):
                    self._kept.add(picture, error.message)
                self._watcher.skipped(picture.name, error.message)
            except OSError as error:
                self._watcher.skipped(picture.name, f"{error.strerror or 'it cannot be read'}.")
            else:
                self._kept.add(picture, labelled)
                self._watcher.labelled()

    async def _asked(self, image: bytes) -> Labelled:
        """Asked again as often as it is worth it."""
        tries = 0
        while True:
            try:
                labelled = await self._labeller.label(image)
            except (*TOO_LARGE, errors.InvalidImage):
                self._answered = time.monotonic()
                raise
            except FAILED:
                tries += 1
                if tries == MOST_TRIES:
                    raise
            except PASSING as error:
                if time.monotonic() - self._answered > PATIENCE:
                    raise OperatorError(f"no picture was answered for {PATIENCE:.0f} s: {error.message}") from None
                await asyncio.sleep(min(PATIENCE, errors.retry_after(error) * errors.jitter(error)))
            else:
                self._answered = time.monotonic()
                return labelled


def _read(picture: PictureFile) -> bytes:
    """Errors: ImageTooLarge, OSError."""
    if picture.size > MOST_BYTES:
        raise errors.ImageTooLarge(f"The file has {picture.size} bytes; at most {MOST_BYTES} are read.")
    return picture.path.read_bytes()

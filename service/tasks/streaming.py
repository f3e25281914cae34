"""An answer while it is being written: events for its text and its objects, and the generator that hands them out."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeAlias

from service.engine.engine import Place
from service.engine.generation import FinishReason, Generated, Generation
from service.tasks.detokenizer import Detokenizer, piece
from service.tasks.located import Locator, Reading
from service.tasks.parsing import SEPARATOR, ObjectParser, ParsedObject
from service.tasks.results import Detection, Piece, Segment, TaskResult


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """Text that became certain with the token at ``index``. Together these are the answer's text.

    Not every token has one: where a character takes several tokens, its text comes with the one that makes it certain.
    ``pieces`` spell the tokens since the event before, where that was asked for. ``model`` is the instance that writes.
    """

    text: str
    index: int
    pieces: tuple[Piece, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class DetectionEvent:
    """The result's detection at ``index``."""

    detection: Detection
    index: int


@dataclass(frozen=True, slots=True)
class SegmentEvent:
    """The result's segment at ``index``."""

    segment: Segment
    index: int


@dataclass(frozen=True, slots=True)
class ResultEvent:
    """The whole result, after everything else."""

    result: TaskResult


@dataclass(frozen=True, slots=True)
class QuietEvent:
    """Nothing happened for a while; the request is still being worked on."""


Progress: TypeAlias = TokenEvent | DetectionEvent | SegmentEvent
Event: TypeAlias = Progress | ResultEvent | QuietEvent
EventListener: TypeAlias = Callable[[Progress], None]
"""Called on the event loop, which it must not block. What it raises ends the request."""


async def stream(ask: Callable[[EventListener], Awaitable[TaskResult]], quiet: float | None = None) -> AsyncGenerator[Event, None]:
    """Hand out the events of a task, and its result last. ``ask`` calls the task with the listener among its options.

    Where nothing happens for ``quiet`` seconds, an event says so, as often as that happens.

    A reader who falls behind holds nobody up: the events wait, and are no more than one answer makes. Closing the generator (see
    ``contextlib.aclosing``) or cancelling its reader cancels the task and waits for its end. Errors: those of the task.
    """
    events: asyncio.Queue[Progress | None] = asyncio.Queue()

    async def asked() -> TaskResult:
        try:
            return await ask(events.put_nowait)
        finally:
            events.put_nowait(None)

    task = asyncio.create_task(asked())
    try:
        while (event := await _next(events, quiet)) is not None:
            yield event
        yield ResultEvent(await task)
    finally:
        task.cancel()
        # Not awaited itself: whoever closes the generator has no more use for the task's errors, but must not be told that nobody saw them.
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


async def _next(events: "asyncio.Queue[Progress | None]", quiet: float | None) -> Progress | QuietEvent | None:
    try:
        async with asyncio.timeout(quiet):
            return await events.get()
    except TimeoutError:
        return QuietEvent()


class Announcer:
    """Runs one generation, and tells the listener what becomes of it. ``workers`` paint the masks.

    ``model`` is the instance's name; ``spells``: events have pieces.
    """

    def __init__(self, listener: EventListener, locator: Locator, workers: Executor, model: str = "", spells: bool = False) -> None:
        self._listener = listener
        self._locator = locator
        self._workers = workers
        self._text = Detokenizer(locator.model.vocabulary)
        self._objects = None if locator.reading is Reading.TEXT else ObjectParser(locator.model.vocabulary)
        self._tokens = 0
        self._model = model
        self._spells = spells
        self._pieces: list[Piece] = []
        self._waiting: list[ParsedObject] = []
        self._painting: asyncio.Task[None] | None = None
        self._detections: list[Detection] = []
        self._segments: list[Segment] = []

    async def run(self, place: Place, generation: Generation) -> tuple[Generated, list[Detection | Segment]]:
        """Wait for the continuation and its objects, all of which have been announced by then."""
        try:
            generated = await place.run(generation, self._take)
            self._announce_text(self._text.end())
            if self._objects is not None:
                self._find(self._objects.end(cut=generated.finish_reason is FinishReason.LENGTH))
            if self._painting is not None:
                await self._painting
            return generated, [*self._detections, *self._segments]
        finally:
            if self._painting is not None:
                self._painting.cancel()

    def _take(self, token: int, probability: float) -> None:
        self._tokens += 1
        if self._spells:
            self._pieces.append(piece(token, probability, self._locator.model.vocabulary))
        text = self._text.add(token)
        self._announce_text(text)
        if self._objects is not None:
            self._find(self._objects.add(token, probability, separates=SEPARATOR in text))

    def _announce_text(self, text: str) -> None:
        if text:
            pieces, self._pieces = tuple(self._pieces), []
            self._listener(TokenEvent(text, self._tokens - 1, pieces, self._model))

    def _find(self, found: ParsedObject | None) -> None:
        """Announce an object behind those before it: at once, unless masks must be painted first."""
        painting = self._painting is not None and not self._painting.done()
        if self._painting is not None and not painting:
            self._painting.result()  # raises what went wrong, before more is written for nothing
        if found is None:
            return
        self._waiting.append(found)
        if painting:
            return
        if self._locator.paints(self._waiting):
            self._painting = asyncio.get_running_loop().create_task(self._paint())
        else:
            self._announce_located(self._locator.locate(self._take_waiting()))

    async def _paint(self) -> None:
        while self._waiting:
            objects = self._take_waiting()
            self._announce_located(await asyncio.get_running_loop().run_in_executor(self._workers, self._locator.locate, objects))

    def _take_waiting(self) -> list[ParsedObject]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _announce_located(self, located: list[Detection | Segment]) -> None:
        for each in located:
            if isinstance(each, Detection):
                self._detections.append(each)
                self._listener(DetectionEvent(each, len(self._detections) - 1))
            else:
                self._segments.append(each)
                self._listener(SegmentEvent(each, len(self._segments) - 1))

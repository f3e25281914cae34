"""Questions answered in this process, without a server."""

import asyncio
import os
import sys
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from service.drawing import draw
from service.errors import AdapterNotFound, ImageTooLarge, InvalidRequest, ModelNotFound, OperatorError, PaliServeError, PromptTooLong
from service.instance_settings import InstanceSettings
from service.model.images import ImageLimits, ImageReader
from service.observability.metrics import Metrics
from service.planning import demo_settings
from service.settings import Settings
from service.tasks.asks import Options
from service.tasks.results import TaskResult
from service.transports.responses import generate_response
from service.wiring import Begin, PaliServe

AT_ONCE = 64
"""Pictures that are read and asked about at once: as many as a device takes into one step, and few enough to be held."""

MANY = 32
"""Pictures for which it is worth to start processes; fewer are answered before those would be ready."""

AS_LONG_AS_IT_TAKES = 86_400.0
"""Seconds. Nobody else waits here, and who does not want to has Ctrl-C."""

OF_THE_QUESTION = (InvalidRequest, PromptTooLong, ModelNotFound, AdapterNotFound)
"""What is wrong with it is so for every picture."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``model``: the name of an instance; None: the first one."""

    prompt: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """What is asked about. ``name``: as it is told of; ``file``: None is standard input; ``save``: the picture to draw into, if any."""

    name: str
    file: Path | None
    save: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The response as ``/v1/generate`` would give it; None where the picture could not be answered about, and ``error`` says why."""

    name: str
    response: dict[str, Any] | None
    error: str = ""


def ask(settings: Settings, question: Question, pictures: Sequence[Picture], begin: Begin, answered: Callable[[Answer], None]) -> None:
    """Ask about all pictures at once; ``answered`` is told in their order. Errors: PaliServeError and OperatorError, of the question."""
    for each in pictures:
        if each.save is not None:
            _check_target(each.save)
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    # Outside of the event loop, which heeds Ctrl-C only when it is given a turn, and waits for all threads; one that reads may never end.
    given = sys.stdin.buffer.read(limits.max_bytes + 1) if any(each.file is None for each in pictures) else b""
    service = PaliServe(_for_asking(settings, question.model, len(pictures)), Metrics("ask"), begin)
    asyncio.run(_ask_all(service, partial(_ask_one, service, question, limits, given), pictures, answered))


@asynccontextmanager
async def opened(settings: Settings, model: str | None, begin: Begin = lambda part, done, of: None) -> AsyncIterator[PaliServe]:
    """The service with one instance, the first or the one of that name, warm until the block is left.

    Errors: CheckpointError, OperatorError.
    """
    service = PaliServe(settings.model_copy(update={"instances": (asked_instance(settings, model),)}), Metrics("ask"), begin)
    async with _warm(service):
        yield service


@asynccontextmanager
async def _warm(service: PaliServe) -> AsyncIterator[None]:
    try:
        await service.start()
        yield
    finally:
        await service.stop()


async def _ask_all(
    service: PaliServe, one: Callable[[Picture], Awaitable[Answer]], pictures: Sequence[Picture], answered: Callable[[Answer], None]
) -> None:
    asking: deque[asyncio.Future[Answer]] = deque()
    async with _warm(service):
        try:
            for picture in pictures:
                if len(asking) == AT_ONCE:
                    answered(await asking.popleft())
                asking.append(asyncio.ensure_future(one(picture)))
            while asking:
                answered(await asking.popleft())
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _ask_one(service: PaliServe, question: Question, limits: ImageLimits, given: bytes, picture: Picture) -> Answer:
    """``given``: standard input. Errors: PaliServeError, where the question is wrong."""
    try:
        data = given if picture.file is None else await asyncio.to_thread(_read, picture.file, limits.max_bytes)
        result = await service.tasks.generate(data, Options(model=question.model), question.prompt)
        problem = await asyncio.to_thread(_draw, data, limits, result, picture.save) if picture.save else ""
    except OF_THE_QUESTION:
        raise
    except PaliServeError as error:
        return Answer(picture.name, None, error.message)
    except OSError as error:
        return Answer(picture.name, None, f"{error.strerror or 'cannot be read'}.")
    if problem:
        return Answer(picture.name, None, problem)
    return Answer(picture.name, generate_response(result, uuid.uuid4().hex).model_dump(mode="json"))


def _read(file: Path, most: int) -> bytes:
    """Errors: OSError, ImageTooLarge."""
    size = file.stat().st_size
    if size > most:
        # Whatever it is, it need not be held to be told so.
        raise ImageTooLarge(f"The image has {size} bytes; at most {most} are read.")
    return file.read_bytes()


def _draw(data: bytes, limits: ImageLimits, result: TaskResult, save: Path) -> str:
    """Returns why it cannot be written, or nothing."""
    drawn = draw(ImageReader(limits).open(data), [*result.detections, *result.segments])
    try:
        drawn.save(save)
    except OSError as error:
        return f"{save}: {error.strerror or 'cannot be written'}."
    return ""


def _for_asking(settings: Settings, model: str | None, count: int) -> Settings:
    """With the one instance that is asked."""
    changed: dict[str, object] = {"instances": (asked_instance(settings, model),)}
    if count < MANY:
        changed |= {"workers": 0, "image_workers": 0}
    return unhurried(settings, AT_ONCE).model_copy(update=changed)


def unhurried(settings: Settings, at_once: int) -> Settings:
    """Without what keeps strangers from taking too much: of so many questions ``at_once`` none is refused, or late."""
    waits = {"max_queue_seconds": AS_LONG_AS_IT_TAKES, "default_timeout_seconds": AS_LONG_AS_IT_TAKES}
    return settings.model_copy(update={"max_queue": max(settings.max_queue, at_once), **waits})


def asked_instance(settings: Settings, model: str | None) -> InstanceSettings:
    """The one instance that is loaded for questions. Errors: OperatorError."""
    instances = settings.instances or demo_settings()
    found = next((each for each in instances if model in (None, each.name)), None)
    if found is None:
        raise OperatorError(f"--model {model}: there is no such instance; there is {', '.join(each.name for each in instances)}.")
    return found.model_copy(update={"preload": True})


def _check_target(save: Path) -> None:
    if not os.path.isdir(save.parent):
        raise OperatorError(f"{save}: there is no folder {save.parent}.")
    if Image.registered_extensions().get(save.suffix.lower()) not in Image.SAVE:
        raise OperatorError(f"{save}: the name must end in a picture's suffix, such as .png or .jpg.")

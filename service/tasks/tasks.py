"""The seven tasks: one method each, and the one way all of them go."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from service.engine.engine import Place
from service.engine.generation import Generated, Generation, Picture, Prompt
from service.engine.grammar import Grammar
from service.errors import DeadlineExceeded
from service.tasks import prompts
from service.tasks.asks import (
    ANSWER,
    CAPTION,
    CAPTION_REGION,
    DETECT,
    GENERATE,
    READ,
    SEGMENT,
    Ask,
    Asked,
    Options,
    Task,
    check_pictures,
    locator_of,
    sampling_of,
    token_budget,
)
from service.tasks.callers import ANYBODY, admission, caller
from service.tasks.detokenizer import piece
from service.tasks.grammars import prefix_grammar, referring_grammar, text_grammar
from service.tasks.located import Locator, Reading
from service.tasks.ports import Held, Instance, LoadedModel, Router
from service.tasks.prompts import CaptionStyle, PromptStyle
from service.tasks.results import Answer, Box, Detection, ImageSize, MaskFormat, Segment, TaskResult, Timings, Usage
from service.tasks.streaming import Announcer

SHORT_PREFIX = 500
"""Characters."""

T = TypeVar("T")


class Tasks:
    """Every transport calls these methods and nothing else.

    ``image_size`` reads (width, height) from a picture's header, within limits. ``readers`` runs what reads pictures, ``workers`` what else
    would block the event loop: a picture that takes long holds up other pictures only. ``default_timeout`` is in seconds.
    ``pictures_apart``: no caller's request finds a picture that only others have sent.
    """

    def __init__(
        self,
        router: Router,
        image_size: Callable[[bytes], tuple[int, int]],
        readers: Executor,
        workers: Executor,
        default_timeout: float,
        pictures_apart: bool = False,
    ) -> None:
        self._router = router
        self._image_size = image_size
        self._readers = readers
        self._workers = workers
        self._default_timeout = default_timeout
        self._pictures_apart = pictures_apart

    async def caption(
        self, image: bytes, options: Options, language: str = "en", style: CaptionStyle = CaptionStyle.STANDARD
    ) -> TaskResult:
        """Describe the picture."""
        return await self._run(CAPTION, image, options, prompts.caption(language, style))

    async def answer(self, image: bytes, options: Options, question: str, language: str = "en") -> TaskResult:
        """Answer a question about the picture."""
        return await self._within_time(Ask(ANSWER, image, options, lambda _, asked: prompts.answer(language, question, asked)))

    async def detect(self, image: bytes, options: Options, objects: Sequence[str]) -> TaskResult:
        """Find the named objects: ``detections``."""
        return await self._run(DETECT, image, options, prompts.detect(objects))

    async def segment(self, image: bytes, options: Options, objects: Sequence[str], mask_format: MaskFormat = MaskFormat.RLE) -> TaskResult:
        """Find and outline the named objects: ``segments``."""
        ask = Ask(SEGMENT, image, options, lambda _, asked: prompts.segment(objects, asked), mask_format, name=" ; ".join(objects).strip())
        return await self._within_time(ask)

    async def read(self, image: bytes, options: Options) -> TaskResult:
        """Read the text in the picture."""
        return await self._run(READ, image, options, prompts.read())

    async def caption_region(self, image: bytes, options: Options, box: Box) -> TaskResult:
        """Describe what lies in a box, given in pixels."""
        return await self._within_time(Ask(CAPTION_REGION, image, options, partial(prompts.caption_region, box), box=box))

    async def generate(self, image: bytes, options: Options, prompt: str, mask_format: MaskFormat = MaskFormat.RLE) -> TaskResult:
        """Continue any prefix; ``detections`` and ``segments`` hold what the text holds of them."""
        prefix = prompts.generate(prompt)
        return await self._within_time(Ask(GENERATE, image, options, lambda *_: prefix, mask_format))

    async def _run(self, task: Task, image: bytes, options: Options, prefix: str) -> TaskResult:
        return await self._within_time(Ask(task, image, options, lambda *_: prefix))

    async def _within_time(self, ask: Ask) -> TaskResult:
        timeout = self._default_timeout if ask.options.timeout is None else ask.options.timeout
        try:
            with admission.get().request(1 + len(ask.options.further)):
                async with asyncio.timeout(timeout):
                    return await self._one_way(ask, time.monotonic(), time.monotonic() + timeout)
        except TimeoutError:
            message = f"The request was not done within {1000 * timeout:.0f} ms; allow more with timeout_ms, or ask for less."
            raise DeadlineExceeded(message) from None

    async def _one_way(self, ask: Ask, started: float, deadline: float) -> TaskResult:
        options = ask.options
        size = ImageSize(0, 0)
        if ask.task.region or options.resolution == "auto":
            size = ImageSize(*await _run_on(self._readers, partial(self._image_size, ask.image)))
        async with self._router.lease(options.model, options.resolution, min(size.width, size.height)) as instance:
            prefix = ask.prefix(size, PromptStyle(instance.prompt_style))
            check_pictures(ask, instance)
            with instance.adapters.hold(options.adapter) as adapter:
                return await self._on(instance, adapter, Asked(ask, prefix, size), (started, deadline))

    async def _on(self, instance: Instance, adapter: Held, asked: Asked, times: tuple[float, float]) -> TaskResult:
        """``times``: when it began, and when it must be done."""
        ask, prefix, (started, deadline) = asked.ask, asked.prefix, times
        options, max_tokens = ask.options, token_budget(ask, instance)
        with instance.engine.reserve(deadline, caller.get()) as place:
            began = time.monotonic()
            tokens, grammar = await self._encoded(instance, prefix, ask)
            async with AsyncExitStack() as held:
                pictures = await self._pictures(held, instance, adapter, asked)
                preprocess = time.monotonic() - began
                generation = Generation(Prompt(pictures, tokens), max_tokens, sampling_of(options), grammar, deadline, adapter.place)
                locator = locator_of(instance, ask, pictures[0].size)
                announcer = None
                if options.listener is not None:
                    announcer = Announcer(options.listener, locator, self._workers, instance.name, options.pieces)
                generated, located = await self._generate(place, generation, locator, announcer)
        seconds = (preprocess, time.monotonic() - started)
        detections = tuple(each for each in located if isinstance(each, Detection))
        segments = tuple(each for each in located if isinstance(each, Segment))
        return TaskResult(_answer(ask, prefix, (instance, generation.prompt, generated), seconds), detections, segments)

    async def _pictures(self, held: AsyncExitStack, instance: Instance, adapter: Held, asked: Asked) -> tuple[Picture, ...]:
        """All pictures of a request, made ready or found; ``held`` keeps them."""
        ask = asked.ask
        outline = None
        if ask.box is not None and PromptStyle(instance.prompt_style) is PromptStyle.DRAWN_BOX:
            outline = prompts.region(ask.box, asked.size)
        variant = (adapter.view, outline, caller.get() if self._pictures_apart else ANYBODY)
        pictures = []
        for image in (ask.image, *ask.options.further):
            make = partial(_made, instance.model, image, outline, adapter.place if adapter.view else 0)
            read = partial(_run_on, self._readers, make)
            pictures.append(await held.enter_async_context(instance.pictures.hold(image, read, variant)))
        return tuple(pictures)

    async def _encoded(self, instance: Instance, prefix: str, ask: Ask) -> tuple[tuple[int, ...], Grammar | None]:
        encode = partial(_encode, instance, prefix, ask)
        # A short prefix is encoded in less time than a thread takes to wake up.
        return encode() if len(prefix) <= SHORT_PREFIX else await _run_on(self._workers, encode)

    async def _generate(
        self, place: Place, generation: Generation, locator: Locator, announcer: Announcer | None
    ) -> tuple[Generated, list[Detection | Segment]]:
        if announcer is not None:
            return await announcer.run(place, generation)
        generated = await place.run(generation)
        if locator.reading is Reading.TEXT:
            return generated, []
        return generated, await _run_on(self._workers, partial(locator.read, generated))


async def _run_on(threads: Executor, work: Callable[[], T]) -> T:
    """What was not begun when its caller leaves, is not begun any more."""
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _encode(instance: Instance, prefix: str, ask: Ask) -> tuple[tuple[int, ...], Grammar | None]:
    """Token ids of the prefix and, where the caller is strict, the grammar of the answer."""
    tokens = instance.model.tokens(prefix, ask.task.locations_allowed)
    if not ask.options.strict:
        return tokens, None
    if ask.task is SEGMENT and PromptStyle(instance.prompt_style) is PromptStyle.REFERRING:
        return tokens, referring_grammar(instance.lexicon)
    return tokens, text_grammar(instance.lexicon) if ask.task.reading is Reading.TEXT else prefix_grammar(prefix, instance.lexicon)


def _made(model: LoadedModel, image: bytes, outline: tuple[float, float, float, float] | None, adapter: int) -> Picture:
    picture = model.picture(image, outline)
    picture.adapter = adapter
    return picture


def _answer(ask: Ask, prefix: str, run: tuple[Instance, Prompt, Generated], seconds: tuple[float, float]) -> Answer:
    """``seconds``: preprocessing, and all of it."""
    instance, prompt, generated = run
    preprocess, total = seconds
    times = generated.times
    # An empty answer is as sure as its end token was.
    probabilities = generated.probabilities or (generated.end_probability or 0.0,)
    vocabulary = instance.model.vocabulary
    spelled = zip(generated.tokens, generated.probabilities, strict=True) if ask.options.pieces else ()
    return Answer(
        model=instance.name,
        task=ask.task.name,
        prompt=prefix,
        text=vocabulary.decode(generated.tokens),
        finish_reason=generated.finish_reason.value,
        score=sum(probabilities) / len(probabilities),
        image=ImageSize(*prompt.pictures[0].size),
        usage=Usage(instance.model.image_tokens * len(prompt.pictures), len(prompt.tokens), len(generated.tokens)),
        timings=Timings(*(1000 * each for each in (times.queue, preprocess, times.vision, times.prefill, times.decode, total))),
        tokens=generated.tokens,
        probabilities=generated.probabilities,
        pieces=tuple(piece(token, probability, vocabulary) for token, probability in spelled),
    )

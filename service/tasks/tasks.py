"""The seven tasks: one method each, and the one way all of them go."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from service.engine.engine import Place
from service.engine.generation import GREEDY, Generated, Generation, Prompt, Sampling
from service.engine.grammar import Grammar
from service.errors import AdapterNotFound, DeadlineExceeded, FieldProblem, InvalidRequest
from service.tasks import prompts
from service.tasks.detokenizer import piece
from service.tasks.grammars import prefix_grammar, text_grammar
from service.tasks.located import Locator, Reading
from service.tasks.ports import Instance, Router
from service.tasks.prompts import CaptionStyle
from service.tasks.results import Answer, Box, Detection, ImageSize, MaskFormat, Segment, TaskResult, Timings, Usage
from service.tasks.streaming import Announcer, EventListener

MAX_TOKENS = 1024
"""The largest budget a caller may ask for; an instance may allow less."""

SHORT_PREFIX = 500
"""Characters."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What every task may be asked besides its own fields.

    ``timeout`` is in seconds; None stands for the service's default. ``listener`` is told of the answer while it is being written.
    ``pieces``: the answer, and the events of its text, spell their tokens.
    """

    model: str | None = None
    resolution: int | str | None = None
    adapter: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    timeout: float | None = None
    strict: bool = False
    listener: EventListener | None = None
    pieces: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What is the same for every request of a task.

    ``max_tokens`` is the budget where the caller gives none. ``region`` tasks put a box of the picture into the prefix.
    """

    name: str
    max_tokens: int
    reading: Reading = Reading.TEXT
    locations_allowed: bool = False
    region: bool = False


CAPTION = Task("caption", 64)
ANSWER = Task("answer", 32)
DETECT = Task("detect", 256, Reading.BOXES)
SEGMENT = Task("segment", 512, Reading.MASKS)
READ = Task("read", 128)
CAPTION_REGION = Task("caption-region", 32, locations_allowed=True, region=True)
GENERATE = Task("generate", 128, Reading.WHATEVER, locations_allowed=True)
ALL_TASKS = (CAPTION, ANSWER, DETECT, SEGMENT, READ, CAPTION_REGION, GENERATE)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request. ``prefix`` waits for the picture's size, because a region is given in its pixels."""

    task: Task
    image: bytes
    options: Options
    prefix: Callable[[ImageSize], str]
    mask_format: MaskFormat = MaskFormat.RLE


class Tasks:
    """Every transport calls these methods and nothing else.

    ``image_size`` reads (width, height) from a picture's header, within limits. ``workers`` runs what would block the event loop.
    ``default_timeout`` is in seconds.
    """

    def __init__(self, router: Router, image_size: Callable[[bytes], tuple[int, int]], workers: Executor, default_timeout: float) -> None:
        self._router = router
        self._image_size = image_size
        self._workers = workers
        self._default_timeout = default_timeout

    async def caption(
        self, image: bytes, options: Options, language: str = "en", style: CaptionStyle = CaptionStyle.STANDARD
    ) -> TaskResult:
        """Describe the picture."""
        return await self._run(CAPTION, image, options, prompts.caption(language, style))

    async def answer(self, image: bytes, options: Options, question: str, language: str = "en") -> TaskResult:
        """Answer a question about the picture."""
        return await self._run(ANSWER, image, options, prompts.answer(language, question))

    async def detect(self, image: bytes, options: Options, objects: Sequence[str]) -> TaskResult:
        """Find the named objects: ``detections``."""
        return await self._run(DETECT, image, options, prompts.detect(objects))

    async def segment(self, image: bytes, options: Options, objects: Sequence[str], mask_format: MaskFormat = MaskFormat.RLE) -> TaskResult:
        """Find and outline the named objects: ``segments``."""
        prefix = prompts.segment(objects)
        return await self._within_time(_Ask(SEGMENT, image, options, lambda _: prefix, mask_format))

    async def read(self, image: bytes, options: Options) -> TaskResult:
        """Read the text in the picture."""
        return await self._run(READ, image, options, prompts.read())

    async def caption_region(self, image: bytes, options: Options, box: Box) -> TaskResult:
        """Describe what lies in a box, given in pixels."""
        return await self._within_time(_Ask(CAPTION_REGION, image, options, partial(prompts.caption_region, box)))

    async def generate(self, image: bytes, options: Options, prompt: str, mask_format: MaskFormat = MaskFormat.RLE) -> TaskResult:
        """Continue any prefix; ``detections`` and ``segments`` hold what the text holds of them."""
        prefix = prompts.generate(prompt)
        return await self._within_time(_Ask(GENERATE, image, options, lambda _: prefix, mask_format))

    async def _run(self, task: Task, image: bytes, options: Options, prefix: str) -> TaskResult:
        return await self._within_time(_Ask(task, image, options, lambda _: prefix))

    async def _within_time(self, ask: _Ask) -> TaskResult:
        timeout = self._default_timeout if ask.options.timeout is None else ask.options.timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._one_way(ask, time.monotonic(), time.monotonic() + timeout)
        except TimeoutError:
            message = f"The request was not done within {1000 * timeout:.0f} ms; allow more with timeout_ms, or ask for less."
            raise DeadlineExceeded(message) from None

    async def _one_way(self, ask: _Ask, started: float, deadline: float) -> TaskResult:
        options = ask.options
        size = ImageSize(0, 0)
        if ask.task.region or options.resolution == "auto":
            size = ImageSize(*await self._in_worker(partial(self._image_size, ask.image)))
        prefix = ask.prefix(size)
        async with self._router.lease(options.model, options.resolution, min(size.width, size.height)) as instance:
            return await self._on(instance, ask, prefix, (started, deadline))

    async def _on(self, instance: Instance, ask: _Ask, prefix: str, times: tuple[float, float]) -> TaskResult:
        """``times``: when it began, and when it must be done."""
        options, (started, deadline) = ask.options, times
        if options.adapter is not None:
            raise AdapterNotFound(f"{instance.name} has no adapter of this name: it serves none.")
        max_tokens = _max_tokens(ask, instance)
        with instance.engine.reserve(deadline) as place:
            began = time.monotonic()
            tokens, grammar = await self._encoded(instance, prefix, ask)
            read = partial(self._in_worker, partial(instance.model.picture, ask.image))
            async with instance.pictures.hold(ask.image, read) as picture:
                preprocess = time.monotonic() - began
                generation = Generation(Prompt(picture, tokens), max_tokens, _sampling(options), grammar, deadline)
                locator = Locator(instance.model, picture.size, ask.task.reading, ask.mask_format)
                announcer = None
                if options.listener is not None:
                    announcer = Announcer(options.listener, locator, self._workers, instance.name, options.pieces)
                generated, located = await self._generate(place, generation, locator, announcer)
        seconds = (preprocess, time.monotonic() - started)
        detections = tuple(each for each in located if isinstance(each, Detection))
        segments = tuple(each for each in located if isinstance(each, Segment))
        return TaskResult(_answer(ask, prefix, (instance, generation.prompt, generated), seconds), detections, segments)

    async def _encoded(self, instance: Instance, prefix: str, ask: _Ask) -> tuple[tuple[int, ...], Grammar | None]:
        encode = partial(_encode, instance, prefix, ask)
        # A short prefix is encoded in less time than a thread takes to wake up.
        return encode() if len(prefix) <= SHORT_PREFIX else await self._in_worker(encode)

    async def _generate(
        self, place: Place, generation: Generation, locator: Locator, announcer: Announcer | None
    ) -> tuple[Generated, list[Detection | Segment]]:
        if announcer is not None:
            return await announcer.run(place, generation)
        generated = await place.run(generation)
        if locator.reading is Reading.TEXT:
            return generated, []
        return generated, await self._in_worker(partial(locator.read, generated))

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)


def _encode(instance: Instance, prefix: str, ask: _Ask) -> tuple[tuple[int, ...], Grammar | None]:
    """Token ids of the prefix and, where the caller is strict, the grammar of the answer."""
    tokens = instance.model.tokens(prefix, ask.task.locations_allowed)
    if not ask.options.strict:
        return tokens, None
    return tokens, text_grammar(instance.lexicon) if ask.task.reading is Reading.TEXT else prefix_grammar(prefix, instance.lexicon)


def _sampling(options: Options) -> Sampling:
    if options.temperature == 0:
        return GREEDY
    seed = secrets.randbits(63) if options.seed is None else options.seed
    return Sampling(options.temperature, options.top_p, options.top_k, seed)


def _max_tokens(ask: _Ask, instance: Instance) -> int:
    most = instance.model.max_tokens
    if ask.options.max_tokens is None:
        return min(ask.task.max_tokens, most)
    if not 1 <= ask.options.max_tokens <= most:
        problem = FieldProblem("max_tokens", f"1..{most} is what {instance.name} allows")
        raise InvalidRequest("The token budget is out of range.", (problem,))
    return ask.options.max_tokens


def _answer(ask: _Ask, prefix: str, run: tuple[Instance, Prompt, Generated], seconds: tuple[float, float]) -> Answer:
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
        image=ImageSize(*prompt.picture.size),
        usage=Usage(instance.model.image_tokens, len(prompt.tokens), len(generated.tokens)),
        timings=Timings(*(1000 * each for each in (times.queue, preprocess, times.vision, times.prefill, times.decode, total))),
        tokens=generated.tokens,
        probabilities=generated.probabilities,
        pieces=tuple(piece(token, probability, vocabulary) for token, probability in spelled),
    )

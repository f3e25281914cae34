"""Events of the tasks over a fake model: what they are, in what order, and how they end."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import ParamSpec, TypeVar
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits, TokenListener
from service.engine.generation import FinishReason, Generated, Generation, StageTimes
from service.engine.runner import Sampled
from service.engine.vision_cache import VisionCache
from service.errors import DeadlineExceeded, GenerationFailed, InvalidRequest
from service.tasks.asks import Options
from service.tasks.located import Locator, Reading
from service.tasks.results import Box, Detection, MaskFormat, Segment, TaskResult
from service.tasks.streaming import Announcer, DetectionEvent, Event, EventListener, Progress, ResultEvent, SegmentEvent, TokenEvent, stream
from service.tasks.tasks import Tasks
from tests.fakes import LEXICON, SilentObserver, generation, shelf
from tests.tasks.test_detokenizer import encoder_vocabulary
from tests.tasks.test_tasks import BOX, CODES, LABEL, PICTURE, OneInstance, ScriptedModel
from tests.tasks.test_tasks import SEPARATOR as SEPARATED

ENDLESS = 10**6
P = ParamSpec("P")
T = TypeVar("T")


class Stage:
    """The tasks over one scripted model, with one slot unless more are needed."""

    def __init__(self, script: Sequence[int], slots: int = 1) -> None:
        self.model = ScriptedModel(script)
        self.model.runner.slots = slots
        self.observer = SilentObserver()
        self.device = DeviceLoop()
        self.engine = Engine("fake", self.device, EngineLimits(8), self.observer)
        self.engine.load(lambda threads: self.model.runner)
        self.workers = ThreadPoolExecutor(2)
        instance = OneInstance("fake", self.model, self.engine, VisionCache("fake", 0, 1, self.observer), LEXICON, shelf())
        self.tasks = Tasks(instance, lambda image: (64, 48), self.workers, self.workers, 30)

    def detect(self, max_tokens: int | None = None) -> AsyncGenerator[Event, None]:
        return stream(lambda listener: self.tasks.detect(PICTURE, Options(listener=listener, max_tokens=max_tokens), ["cat"]))

    def segment(self) -> AsyncGenerator[Event, None]:
        return stream(lambda listener: self.tasks.segment(PICTURE, Options(listener=listener), ["cat"]))

    def generate(self, max_tokens: int | None = None, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        return stream(
            lambda listener: self.tasks.generate(PICTURE, Options(listener=listener, max_tokens=max_tokens, timeout=timeout), "any")
        )

    async def slot_is_free(self) -> None:
        """Another request gets through the one slot."""
        result = await self.tasks.caption(PICTURE, Options(max_tokens=1))
        assert result.answer.usage.completion_tokens == 1
        assert (self.engine.waiting, self.engine.running) == (0, 0)


def run(work: Callable[[Stage], Awaitable[None]], script: Sequence[int], slots: int = 1) -> None:
    stage = Stage(script, slots)
    stage.device.start()

    async def main() -> None:
        async with asyncio.timeout(60):
            await work(stage)

    try:
        with stage.workers:
            asyncio.run(main())
    finally:
        stage.device.stop()


async def collected(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokenEvent))


def timeless(result: TaskResult) -> TaskResult:
    return replace(result, answer=replace(result.answer, timings=replace(result.answer.timings, **dict.fromkeys(TIMINGS, 0.0))))


TIMINGS = ("queue", "preprocess", "vision", "prefill", "decode", "total")
SEVEN: dict[str, Callable[[Tasks, Options], Awaitable[TaskResult]]] = {
    "caption": lambda tasks, options: tasks.caption(PICTURE, options),
    "answer": lambda tasks, options: tasks.answer(PICTURE, options, "who?"),
    "detect": lambda tasks, options: tasks.detect(PICTURE, options, ["cat"]),
    "segment": lambda tasks, options: tasks.segment(PICTURE, options, ["cat"], MaskFormat.PNG),
    "read": lambda tasks, options: tasks.read(PICTURE, options),
    "caption-region": lambda tasks, options: tasks.caption_region(PICTURE, options, Box(16, 12, 32, 48)),
    "generate": lambda tasks, options: tasks.generate(PICTURE, options, "any"),
}
SCRIPTS = {
    "text": (LABEL, LABEL),
    "nothing": (),
    "objects": (*BOX, LABEL, SEPARATED, *BOX, *CODES, LABEL, SEPARATED, *BOX[:3], LABEL, *BOX, *CODES[:3], LABEL, *BOX),
}


@pytest.mark.parametrize("task", SEVEN)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("budget", [None, 1, 12])
def test_events_are_the_result_in_parts(task: str, script: str, budget: int | None) -> None:
    async def work(stage: Stage) -> None:
        options = Options(max_tokens=budget)
        events = await collected(stream(lambda listener: SEVEN[task](stage.tasks, replace(options, listener=listener))))
        plain = await SEVEN[task](stage.tasks, options)
        check_parts(events, plain)

    run(work, SCRIPTS[script])


def check_parts(events: Sequence[Event], plain: TaskResult) -> None:
    """All that every stream keeps to, and that its result is the same as without a stream."""
    *parts, last = events
    assert isinstance(last, ResultEvent)
    assert timeless(last.result) == timeless(plain)
    assert text_of(parts) == plain.answer.text
    detections = [part for part in parts if isinstance(part, DetectionEvent)]
    segments = [part for part in parts if isinstance(part, SegmentEvent)]
    assert detections == [DetectionEvent(each, index) for index, each in enumerate(plain.detections)]
    assert segments == [SegmentEvent(each, index) for index, each in enumerate(plain.segments)]
    indices = [part.index for part in parts if isinstance(part, TokenEvent)]
    assert indices == sorted(set(indices))
    assert all(0 <= index < plain.answer.usage.completion_tokens for index in indices)


def kinds(events: Sequence[Event]) -> str:
    """A letter each: t, d, s, r."""
    return "".join(type(event).__name__[0].lower() for event in events)


@pytest.mark.parametrize(
    ("script", "order"),
    [
        ((*BOX, LABEL, SEPARATED, LABEL), "ttttttdtr"),
        ((*BOX, LABEL, *BOX), "ttttttdtttdr"),
        ((*BOX, LABEL), "tttttdr"),
        ((*BOX, LABEL, SEPARATED, *BOX, LABEL, SEPARATED, LABEL), "ttttttdttttttdtr"),
        ((*BOX, *CODES, LABEL, SEPARATED, LABEL), "t" * 22 + "dtr"),
    ],
)
def test_a_detection_comes_as_soon_as_it_is_complete(script: Sequence[int], order: str) -> None:
    async def work(stage: Stage) -> None:
        assert kinds(await collected(stage.detect())) == order

    run(work, script)


def calling_at(step: int, call: Callable[[], None], work: Callable[[range], Sampled]) -> Callable[[range], Sampled]:
    """Choose tokens as ``work`` does, after a call at one step."""
    steps = iter(range(ENDLESS))

    def choose(slots: range) -> Sampled:
        if next(steps) == step:
            call()
        return work(slots)

    return choose


def poison() -> None:
    raise RuntimeError("poison")


class Brush:
    """Paints when it is told to."""

    def __init__(self) -> None:
        self.may_paint = threading.Event()
        self.began = threading.Event()
        self.calls: list[tuple[int, threading.Thread]] = []

    def wait_until_it_began(self) -> None:
        self.began.wait()

    def paint_masks(
        self, codes: Sequence[tuple[int, ...]], boxes: Sequence[tuple[float, float, float, float]], image_size: tuple[int, int]
    ) -> Iterator[NDArray[np.bool_]]:
        self.calls.append((len(codes), threading.current_thread()))
        self.began.set()
        self.may_paint.wait()
        return (np.ones((image_size[1], image_size[0]), dtype=np.bool_) for _ in codes)


def test_text_does_not_wait_for_masks_and_objects_wait_for_each_other() -> None:
    brush = Brush()
    segment, detection = [*BOX, *CODES, LABEL, SEPARATED], [*BOX, LABEL, SEPARATED]

    async def work(stage: Stage) -> None:
        stage.model.paint_masks = brush.paint_masks  # type: ignore[method-assign]
        order = ""
        choose = calling_at(len(segment), brush.wait_until_it_began, stage.model.runner._next)
        with mock.patch.object(stage.model.runner, "_next", side_effect=choose):
            async with aclosing(stage.generate()) as events:
                async for event in events:
                    order += kinds([event])
                    if order == "t" * (2 * len(segment) + 2 * len(detection)):
                        brush.may_paint.set()
        assert order.strip("t") == "sdsdr"
        assert [count for count, _ in brush.calls] == [1, 1], "what has waited is painted together"
        assert threading.main_thread() not in {thread for _, thread in brush.calls}

    run(work, [*segment, *detection, *segment, *detection])


def test_a_reader_who_never_reads_holds_nobody_up() -> None:
    async def work(stage: Stage) -> None:
        async with aclosing(stage.detect()) as events:
            await anext(events)
            for _ in range(3):
                assert (await stage.tasks.caption(PICTURE, Options())).answer.usage.completion_tokens == 64
            check_parts([TokenEvent("<2256>", 0), *await collected(events)], await stage.tasks.detect(PICTURE, Options(), ["cat"]))

    run(work, [*BOX, LABEL, SEPARATED] * 40, slots=2)


def test_closing_the_stream_frees_the_slot() -> None:
    async def work(stage: Stage) -> None:
        events = stage.generate(max_tokens=1024)
        assert await anext(events) == TokenEvent(" cat", 0, model="fake")
        await events.aclose()
        await stage.slot_is_free()

    run(work, [LABEL] * ENDLESS)


def test_cancelling_the_reader_frees_the_slot() -> None:
    async def work(stage: Stage) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async with aclosing(stage.generate(max_tokens=1024)) as events:
                async for _ in events:
                    begun.set()

        reader = asyncio.create_task(read())
        await begun.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await stage.slot_is_free()

    run(work, [LABEL] * ENDLESS)


def test_closing_while_a_mask_is_painted_ends_the_events() -> None:
    brush = Brush()

    async def work(stage: Stage) -> None:
        stage.model.paint_masks = brush.paint_masks  # type: ignore[method-assign]
        heard: list[Event] = []

        def ask(listener: EventListener) -> Awaitable[TaskResult]:
            def hear(event: Progress) -> None:
                heard.append(event)
                listener(event)

            return stage.tasks.segment(PICTURE, Options(listener=hear), ["cat"])

        async with aclosing(stream(ask)) as events:
            await anext(events)
            await asyncio.to_thread(brush.began.wait)
        before = len(heard)
        brush.may_paint.set()
        await stage.slot_is_free()
        assert len(heard) == before

    run(work, [*BOX, *CODES, LABEL, SEPARATED, *[LABEL] * ENDLESS])


def test_a_refusal_comes_from_the_iterator() -> None:
    async def work(stage: Stage) -> None:
        with pytest.raises(InvalidRequest):
            await collected(stage.detect(max_tokens=0))
        await stage.slot_is_free()

    run(work, [LABEL])


def test_an_error_comes_behind_what_came_before_it() -> None:
    async def work(stage: Stage) -> None:
        events, seen = stage.detect(), ""
        with mock.patch.object(stage.model.runner, "_next", side_effect=calling_at(6, poison, stage.model.runner._next)):
            for _ in range(7):
                seen += kinds([await anext(events)])
            with pytest.raises(GenerationFailed):
                await anext(events)
        assert seen == "ttttttd"
        await stage.slot_is_free()

    run(work, [*BOX, LABEL, SEPARATED, LABEL])


def test_a_deadline_ends_the_stream() -> None:
    async def work(stage: Stage) -> None:
        with pytest.raises(DeadlineExceeded):
            await collected(stage.generate(timeout=0.0))

    run(work, [LABEL])


def test_a_mask_that_cannot_be_painted_ends_the_request_early() -> None:
    def refuse(*_: object) -> Iterator[NDArray[np.bool_]]:
        raise MemoryError("no paint")

    async def work(stage: Stage) -> None:
        stage.model.paint_masks = refuse  # type: ignore[method-assign,assignment]
        with pytest.raises(MemoryError, match="no paint"):
            await collected(stage.segment())
        await stage.slot_is_free()

    run(work, [*BOX, *CODES, LABEL, SEPARATED, *[LABEL] * ENDLESS])


@pytest.mark.parametrize("script", [(*BOX, LABEL), (*BOX, *CODES, LABEL, *BOX), (LABEL,)])
def test_a_listener_that_raises_fails_its_request(script: Sequence[int]) -> None:
    def refuse(event: object) -> None:
        if not isinstance(event, TokenEvent) or event.text == " cat":
            raise ValueError("not that")

    async def work(stage: Stage) -> None:
        with pytest.raises(ValueError, match="not that"):
            await stage.tasks.generate(PICTURE, Options(listener=refuse), "any")
        await stage.slot_is_free()

    run(work, script)


def test_many_streams_and_others_at_once() -> None:
    script = SCRIPTS["objects"]

    async def work(stage: Stage) -> None:
        streamed = asyncio.gather(*(collected(stage.segment()) for _ in range(4)))
        plain = await asyncio.gather(*(stage.tasks.segment(PICTURE, Options(), ["cat"]) for _ in range(4)))
        for events in await streamed:
            check_parts(events, plain[0])
            assert all(isinstance(each, Segment) for each in plain[0].segments)

    run(work, script, slots=4)


class Written:
    """A place whose answer is written already."""

    def __init__(self, generated: Generated) -> None:
        self._generated = generated

    async def run(self, generation: Generation, listener: TokenListener) -> Generated:
        for token, probability in zip(self._generated.tokens, self._generated.probabilities, strict=True):
            listener(token, probability)
            await asyncio.sleep(0)
        return self._generated


VOCABULARY = encoder_vocabulary()
FIRST_BYTE = 4
RUNS = st.one_of(
    st.lists(st.integers(VOCABULARY.first_location, VOCABULARY.first_location + 1023), min_size=4, max_size=4),
    st.lists(st.integers(VOCABULARY.first_location, VOCABULARY.first_location + 1023), max_size=5),
    st.lists(st.integers(VOCABULARY.first_segmentation, VOCABULARY.first_segmentation + 127), min_size=16, max_size=16),
    st.lists(st.integers(VOCABULARY.first_segmentation, VOCABULARY.first_segmentation + 127), max_size=17),
    st.text(max_size=6).map(lambda text: [FIRST_BYTE + byte for byte in text.encode()]),
    st.text(" ;ab", max_size=4).map(lambda text: [FIRST_BYTE + byte for byte in text.encode()]),
    st.lists(st.sampled_from([0, 1, 2, 3, FIRST_BYTE + 0xFF, FIRST_BYTE + ord(";"), FIRST_BYTE + ord(" ")]), max_size=3),
    st.lists(st.integers(FIRST_BYTE + 256, VOCABULARY.first_location), max_size=4),
    st.lists(st.integers(-2, 2000), max_size=4),
)
ANSWERS = st.builds(
    lambda runs, reason: Generated(
        tuple(token for run in runs for token in run),
        tuple(1 / (2 + index % 7) for index, _ in enumerate(token for run in runs for token in run)),
        None,
        reason,
        StageTimes(0, 0, 0, 0),
    ),
    st.lists(RUNS, max_size=10),
    st.sampled_from(FinishReason),
)


@given(generated=ANSWERS, reading=st.sampled_from(Reading))
def test_whatever_is_written_the_events_are_its_parts(generated: Generated, reading: Reading) -> None:
    model = ScriptedModel(())
    model.vocabulary = VOCABULARY
    locator = Locator(model, (64, 48), reading, MaskFormat.RLE)
    heard: list[Event] = []
    announcer = Announcer(heard.append, locator, Here())
    asyncio.run(announcer.run(Written(generated), generation(0)))  # type: ignore[arg-type]
    assert text_of(heard) == VOCABULARY.decode(generated.tokens)
    located = [] if reading is Reading.TEXT else locator.read(generated)
    found: list[Detection | Segment] = []
    for event in heard:
        if isinstance(event, DetectionEvent):
            found.append(event.detection)
        elif isinstance(event, SegmentEvent):
            found.append(event.segment)
    assert found == located


class Here(Executor):
    """Works at once, in the thread that asks."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done

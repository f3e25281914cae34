"""Streams of the embedded model, in this process: the same answers as without."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from service.observability.metrics import Metrics
from service.settings import Settings
from service.tasks.asks import Options
from service.tasks.prompts import CaptionStyle
from service.tasks.results import Box, MaskFormat, TaskResult
from service.tasks.streaming import Event, EventListener, ResultEvent, TokenEvent, stream
from service.tasks.tasks import Tasks
from service.wiring import PaliServe
from tests.tasks.test_streaming import check_parts, collected, kinds

NAMES = ["green square", "purple star", "sign"]
Ask = Callable[[Tasks, bytes, Options], Awaitable[TaskResult]]
SEVEN: dict[str, Ask] = {
    "caption": lambda tasks, image, options: tasks.caption(image, options, style=CaptionStyle.DETAILED),
    "answer": lambda tasks, image, options: tasks.answer(image, options, "what color is the star?"),
    "detect": lambda tasks, image, options: tasks.detect(image, options, NAMES),
    "segment": lambda tasks, image, options: tasks.segment(image, options, NAMES, MaskFormat.POLYGON),
    "read": lambda tasks, image, options: tasks.read(image, options),
    "caption-region": lambda tasks, image, options: tasks.caption_region(image, options, Box(470, 75, 616, 222)),
    "generate": lambda tasks, image, options: tasks.generate(image, options, "segment purple star ; green square"),
}
GREEDY = Options()
HOT = Options(temperature=4.0, seed=3, max_tokens=200)
"""Writes nonsense: broken characters, objects without labels, runs of the wrong length."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def served(runner: asyncio.Runner) -> Iterator[PaliServe]:
    service = PaliServe(Settings(threads=2), Metrics("test"))
    runner.run(service.start())
    yield service
    runner.run(service.stop())


def streamed(ask: Ask, service: PaliServe, image: bytes, options: Options) -> AsyncGenerator[Event, None]:
    def start(listener: EventListener) -> Awaitable[TaskResult]:
        return ask(service.tasks, image, replace(options, listener=listener))

    return stream(start)


@pytest.mark.parametrize("options", [GREEDY, replace(GREEDY, max_tokens=9), HOT], ids=["greedy", "cut", "hot"])
@pytest.mark.parametrize("task", SEVEN)
def test_a_stream_is_the_answer_in_parts(runner: asyncio.Runner, served: PaliServe, sample: bytes, task: str, options: Options) -> None:
    events = runner.run(collected(streamed(SEVEN[task], served, sample, options)))
    check_parts(events, runner.run(as_task(SEVEN[task](served.tasks, sample, options))))


async def as_task(result: Awaitable[TaskResult]) -> TaskResult:
    return await result


def test_the_first_object_comes_before_the_last_is_written(runner: asyncio.Runner, served: PaliServe, sample: bytes) -> None:
    order = kinds(runner.run(collected(streamed(SEVEN["detect"], served, sample, GREEDY))))
    assert order.replace("t", "") == "dddr"
    assert order.index("d") < order.rindex("t") // 2


def test_all_tasks_stream_together_and_those_who_leave_harm_nobody(runner: asyncio.Runner, served: PaliServe, sample: bytes) -> None:
    async def leave(ask: Ask) -> None:
        async with aclosing(streamed(ask, served, sample, HOT)) as events:
            assert isinstance(await anext(events), TokenEvent)

    async def work() -> None:
        streams = asyncio.gather(*(collected(streamed(ask, served, sample, GREEDY)) for ask in SEVEN.values()))
        await asyncio.gather(*(leave(ask) for ask in SEVEN.values()))
        for ask, events in zip(SEVEN.values(), await streams, strict=True):
            last = events[-1]
            assert isinstance(last, ResultEvent)
            check_parts(events, last.result)
            # In company the last bits of the probabilities differ, not the tokens.
            assert last.result.answer.text == (await ask(served.tasks, sample, GREEDY)).answer.text
        assert served.idle()

    runner.run(work())

"""The tasks over a fake model: what they ask, what they read, and how they end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from unittest import mock

import pytest
from PIL import Image

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.generation import Generation, Picture
from service.engine.lexicon import Lexicon
from service.engine.runner import Sampled
from service.engine.vision_cache import VisionCache
from service.errors import AdapterNotFound, DeadlineExceeded, InvalidRequest, Overloaded
from service.instances.shelf import AdapterShelf
from service.tasks.asks import Options
from service.tasks.callers import caller
from service.tasks.prompts import CaptionStyle
from service.tasks.results import Box, MaskFormat, PngMask, RleMask, TaskResult
from service.tasks.tasks import Tasks
from tests.fakes import END, LEXICON, FakeModel, PlainRunner, SilentObserver, shelf

FIRST_LOCATION, FIRST_SEGMENTATION = 2000, 3100
BOX = [FIRST_LOCATION + 256, FIRST_LOCATION + 128, FIRST_LOCATION + 768, FIRST_LOCATION + 512]
CODES = list(range(FIRST_SEGMENTATION, FIRST_SEGMENTATION + 16))
LABEL, SEPARATOR = 500, 501
WORDS = {LABEL: " cat", SEPARATOR: " ;"}


class ScriptedRunner(PlainRunner):
    """Answers every prompt with the same tokens."""

    slots, image_tokens, feature_bytes, vocabulary_size, end_tokens = 4, 4, 1000, 4000, frozenset({END})

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__()
        self._script = [*script, END]
        self.encoded: list[Picture] = []
        self.generations: list[Generation] = []
        self._written = [0] * self.slots

    def encode(self, pictures: Sequence[Picture]) -> list[object]:
        self.encoded += pictures
        return [each.pixels for each in pictures]

    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        self.generations += generations
        for slot in range(first_slot, first_slot + len(generations)):
            self._written[slot] = 0
        return self._next(range(first_slot, first_slot + len(generations)))

    def decode(self, slots: range) -> Sampled:
        return self._next(slots)

    def move(self, source: int, target: int) -> None:
        self._written[target] = self._written[source]

    def _next(self, slots: range) -> Sampled:
        tokens = [self._script[self._written[slot]] for slot in slots]
        for slot in slots:
            self._written[slot] += 1
        return Sampled(tokens, [0.5] * len(tokens))


class ScriptedModel(FakeModel):
    """Keeps the prefixes it was given."""

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__()
        self.runner = ScriptedRunner(script)  # type: ignore[assignment]
        self.prefixes: list[tuple[str, bool]] = []
        self.vocabulary = type(self.vocabulary)(FIRST_LOCATION, FIRST_SEGMENTATION, self._text)

    def tokens(self, prefix: str, locations_allowed: bool) -> tuple[int, ...]:
        self.prefixes.append((prefix, locations_allowed))
        return super().tokens(prefix, locations_allowed)

    @staticmethod
    def _text(tokens: Sequence[int]) -> str:
        return "".join(WORDS.get(token, f"<{token}>") for token in tokens)


@dataclass
class OneInstance:
    """An instance, and the router that always knows it."""

    name: str
    model: ScriptedModel
    engine: Engine
    pictures: VisionCache
    lexicon: Lexicon
    adapters: AdapterShelf
    prompt_style: str = "standard"
    max_images: int = 1
    asked: tuple[object, ...] = ()

    @asynccontextmanager
    async def lease(self, model: str | None, resolution: int | str | None, shorter_side: int | None) -> AsyncIterator["OneInstance"]:
        self.asked = (model, resolution, shorter_side)
        yield self


def run(
    work: Callable[[Tasks], Awaitable[TaskResult]],
    script: Sequence[int] = (LABEL,),
    queue: int = 8,
    timeout: float = 30,
    how: dict[str, Any] | None = None,
    cache_bytes: int = 0,
    pictures_apart: bool = False,
) -> tuple[TaskResult, OneInstance]:
    model, observer = ScriptedModel(script), SilentObserver()
    device = DeviceLoop()
    engine = Engine("fake", device, EngineLimits(queue), observer)
    instance = OneInstance(
        "fake", model, engine, VisionCache("fake", cache_bytes, 1, observer), LEXICON, **({"adapters": shelf(2)} | (how or {}))
    )
    engine.load(lambda threads: model.runner)
    device.start()
    try:
        with ThreadPoolExecutor(2) as workers:
            tasks = Tasks(instance, lambda image: (64, 48), workers, workers, timeout, pictures_apart)

            async def main() -> TaskResult:
                return await work(tasks)

            return asyncio.run(main()), instance
    finally:
        device.stop()


PICTURE = b"picture"


@pytest.mark.parametrize(
    ("work", "prefix", "locations_allowed"),
    [
        (lambda tasks: tasks.caption(PICTURE, Options()), "caption en", False),
        (lambda tasks: tasks.caption(PICTURE, Options(), "fr", CaptionStyle.SHORT), "cap fr", False),
        (lambda tasks: tasks.answer(PICTURE, Options(), "who?"), "answer en who?", False),
        (lambda tasks: tasks.detect(PICTURE, Options(), ["cat", "dog"]), "detect cat ; dog", False),
        (lambda tasks: tasks.segment(PICTURE, Options(), ["cat"]), "segment cat", False),
        (lambda tasks: tasks.read(PICTURE, Options()), "ocr", False),
        (lambda tasks: tasks.caption_region(PICTURE, Options(), Box(16, 12, 32, 48)), "caption <loc0256><loc0256><loc1023><loc0512>", True),
        (lambda tasks: tasks.generate(PICTURE, Options(), " any \n"), "any", True),
    ],
)
def test_each_task_sends_its_prefix(work: Callable[[Tasks], Awaitable[TaskResult]], prefix: str, locations_allowed: bool) -> None:
    result, instance = run(work)
    assert instance.model.prefixes == [(prefix, locations_allowed)]
    assert result.answer.prompt == prefix


def test_the_answer_tells_all_about_itself() -> None:
    result, _ = run(lambda tasks: tasks.caption(PICTURE, Options()), script=(LABEL, SEPARATOR))
    answer = result.answer
    assert (answer.model, answer.task, answer.text, answer.finish_reason, answer.score) == ("fake", "caption", " cat ;", "stop", 0.5)
    assert len(answer.tokens) == answer.usage.completion_tokens
    assert answer.probabilities == (0.5,) * len(answer.tokens)
    assert (answer.image.width, answer.image.height) == (64, 48)
    assert (answer.usage.image_tokens, answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 2, 2)
    timings = answer.timings
    assert timings.total >= timings.preprocess + timings.queue + timings.vision + timings.prefill + timings.decode > 0


def test_boxes_are_in_pixels_of_the_picture() -> None:
    result, _ = run(lambda tasks: tasks.detect(PICTURE, Options(), ["cat"]), script=(*BOX, LABEL))
    (found,) = result.detections
    assert (found.label, found.box) == ("cat", Box(8.0, 12.0, 32.0, 36.0))
    assert found.score == pytest.approx(0.5)
    assert result.segments == ()


def test_masks_come_in_the_form_asked_for() -> None:
    result, _ = run(lambda tasks: tasks.segment(PICTURE, Options(), ["cat"], MaskFormat.PNG), script=(*BOX, *CODES, LABEL))
    (found,) = result.segments
    assert isinstance(found.mask, PngMask)
    assert Image.open(BytesIO(found.mask.data)).size == (64, 48)


def test_a_segment_without_codes_keeps_its_box() -> None:
    result, _ = run(lambda tasks: tasks.segment(PICTURE, Options(), ["cat"]), script=(*BOX, LABEL, SEPARATOR, *BOX, *CODES, LABEL))
    bare, masked = result.segments
    assert bare.mask is None
    assert isinstance(masked.mask, RleMask)


def test_generate_tells_boxes_from_masks() -> None:
    result, _ = run(lambda tasks: tasks.generate(PICTURE, Options(), "p"), script=(*BOX, LABEL, SEPARATOR, *BOX, *CODES, LABEL))
    assert len(result.detections) == len(result.segments) == 1


def test_caption_reads_no_boxes() -> None:
    result, _ = run(lambda tasks: tasks.caption(PICTURE, Options()), script=(*BOX, LABEL))
    assert not result.detections
    assert not result.segments


@pytest.mark.parametrize("script", [(LABEL,), (*BOX, *CODES, LABEL)])
def test_only_preparing_a_text_task_needs_a_worker(script: Sequence[int]) -> None:
    with mock.patch.object(ThreadPoolExecutor, "submit", autospec=True, side_effect=ThreadPoolExecutor.submit) as submit:
        run(lambda tasks: tasks.caption(PICTURE, Options()), script)
        assert submit.call_count == 1
        run(lambda tasks: tasks.detect(PICTURE, Options(), ["cat"]), script)
        assert submit.call_count == 1 + 2


def test_threat_05_a_picture_whose_caller_left_before_its_turn_is_not_read() -> None:
    async def work(tasks: Tasks) -> TaskResult:
        going_on = threading.Event()
        readers = tasks._readers
        assert isinstance(readers, ThreadPoolExecutor)
        busy = [readers.submit(going_on.wait, 30) for _ in range(2)]
        try:
            asking = asyncio.create_task(tasks.caption(b"of one who leaves", Options()))
            for _ in range(100):
                await asyncio.sleep(0)
            assert readers._work_queue.qsize() == 1
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        finally:
            going_on.set()
        assert all(each.result() for each in busy)
        return await tasks.caption(PICTURE, Options())

    with mock.patch.object(FakeModel, "picture", autospec=True, side_effect=FakeModel.picture) as picture:
        run(work)
    assert [call.args[1] for call in picture.call_args_list] == [PICTURE]


def test_an_empty_answer_is_as_sure_as_its_end() -> None:
    result, _ = run(lambda tasks: tasks.detect(PICTURE, Options(), ["dog"]), script=())
    assert (result.answer.text, result.answer.score, result.detections) == ("", 0.5, ())


def test_a_cut_answer_says_so() -> None:
    result, _ = run(lambda tasks: tasks.detect(PICTURE, Options(max_tokens=2), ["cat"]), script=(*BOX, LABEL))
    assert (result.answer.finish_reason, result.detections) == ("length", ())


def test_routing_gets_what_the_caller_asked() -> None:
    _, instance = run(lambda tasks: tasks.caption(PICTURE, Options(model="m", resolution="auto")))
    assert instance.asked == ("m", "auto", 48)


@pytest.mark.parametrize("budget", [0, 1025])
def test_a_budget_out_of_range_is_refused(budget: int) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        run(lambda tasks: tasks.caption(PICTURE, Options(max_tokens=budget)))
    assert refusal.value.fields[0].field == "max_tokens"


def test_adapters_that_are_not_there_are_not_found() -> None:
    with pytest.raises(AdapterNotFound):
        run(lambda tasks: tasks.caption(PICTURE, Options(adapter="a")))


@pytest.mark.parametrize(("source", "seen_with"), [("text", 0), ("eyes", 1)])
def test_a_request_has_its_adapter_and_pictures_are_seen_with_it_where_it_changes_that(source: str, seen_with: int) -> None:
    adapters = shelf(2)
    asyncio.run(adapters.load("mine", source))
    _, instance = run(lambda tasks: tasks.caption(PICTURE, Options(adapter="mine")), how={"adapters": adapters})
    runner: Any = instance.model.runner
    assert [each.adapter for each in runner.generations] == [1]
    assert [each.adapter for each in runner.encoded] == [seen_with]


def test_several_pictures_are_sent_where_the_instance_takes_them() -> None:
    options = Options(further=(b"second", b"third"))
    result, instance = run(lambda tasks: tasks.answer(PICTURE, options, "same?"), how={"max_images": 3})
    runner: Any = instance.model.runner
    assert [each.features for each in runner.generations[0].prompt.pictures] == [PICTURE, b"second", b"third"]
    assert result.answer.usage.image_tokens == 12
    with pytest.raises(InvalidRequest, match="too many pictures") as refusal:
        run(lambda tasks: tasks.answer(PICTURE, options, "same?"), how={"max_images": 2})
    assert "at most 2" in refusal.value.fields[0].problem
    with pytest.raises(InvalidRequest) as refusal:
        run(lambda tasks: tasks.answer(PICTURE, options, "same?"))
    assert "takes one picture" in refusal.value.fields[0].problem


@pytest.mark.parametrize(
    ("style", "work", "prefix"),
    [
        ("bare-question", lambda tasks: tasks.answer(PICTURE, Options(), "What is the date?"), "What is the date?"),
        ("bare-question", lambda tasks: tasks.caption(PICTURE, Options()), "caption en"),
        ("choices", lambda tasks: tasks.answer(PICTURE, Options(), "which? choose from: a \t b"), "answer en  which? choose from: a \t b"),
        ("science-qa", lambda tasks: tasks.answer(PICTURE, Options(), "why?\nOptions: (A) x"), "Question: why?\nOptions: (A) x\nAnswer:"),
        ("referring", lambda tasks: tasks.segment(PICTURE, Options(), ["the left cat"]), "the left cat"),
        ("drawn-box", lambda tasks: tasks.caption_region(PICTURE, Options(), Box(0, 0, 32, 24)), "caption en"),
    ],
)
def test_an_instance_is_asked_as_its_checkpoint_wants_it(style: str, work: Callable[[Tasks], Awaitable[TaskResult]], prefix: str) -> None:
    result, instance = run(work, how={"prompt_style": style})
    assert [each for each, _ in instance.model.prefixes] == [prefix]
    assert result.answer.prompt == prefix


def test_a_referred_object_has_the_name_it_was_asked_by_and_its_bins_reach_the_edge() -> None:
    edge = [FIRST_LOCATION, FIRST_LOCATION, FIRST_LOCATION + 1023, FIRST_LOCATION + 1023]
    result, _ = run(lambda tasks: tasks.segment(PICTURE, Options(), ["the left cat"]), [*edge, *CODES], how={"prompt_style": "referring"})
    (segment,) = result.segments
    assert (segment.label, segment.box, segment.mask is not None) == ("the left cat", Box(0, 0, 64, 48), True)
    with pytest.raises(InvalidRequest, match="number of objects"):
        run(lambda tasks: tasks.segment(PICTURE, Options(), ["a", "b"]), how={"prompt_style": "referring"})


def test_a_referred_object_by_strict_decoding() -> None:
    _, instance = run(lambda tasks: tasks.segment(PICTURE, Options(strict=True), ["a"]), [*BOX, *CODES], how={"prompt_style": "referring"})
    runner: Any = instance.model.runner
    grammar = runner.generations[0].grammar
    state = 0
    for token in [*BOX, *CODES]:
        allowed = grammar.allowed(state)
        assert any(first <= token < end for first, end in allowed.ranges)
        state = grammar.advance(state, token)
    assert grammar.allowed(state).ranges == ()
    assert set(grammar.allowed(state).others) == {END}


def test_a_region_is_drawn_where_the_checkpoint_wants_it_so() -> None:
    with mock.patch.object(ScriptedModel, "picture", autospec=True, side_effect=FakeModel.picture) as made:
        run(lambda tasks: tasks.caption_region(PICTURE, Options(), Box(16, 12, 32, 48)), how={"prompt_style": "drawn-box"})
        assert made.call_args.args[2] == (0.25, 0.25, 1.0, 0.5)
        run(lambda tasks: tasks.caption_region(PICTURE, Options(), Box(16, 12, 32, 48)))
        assert made.call_args.args[2] is None


def test_no_time_left_is_a_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match="timeout_ms"):
        run(lambda tasks: tasks.generate(PICTURE, Options(timeout=0.0), "p"))


def test_a_full_queue_is_refused_before_any_work() -> None:
    with pytest.raises(Overloaded):
        run(lambda tasks: tasks.caption(PICTURE, Options()), queue=0)


@pytest.mark.parametrize(("apart", "encoded"), [(False, 1), (True, 3)])
def test_threat_45_a_picture_of_one_caller_is_new_from_another_where_they_are_kept_apart(apart: bool, encoded: int) -> None:
    """Twice from each of three: what is found is faster, and tells whoever asks that somebody had asked about it."""

    async def work(tasks: Tasks) -> TaskResult:
        for name in ("one", "another", "one", "another", "", ""):
            caller.set(name)
            result = await tasks.caption(bytes(PICTURE), Options())
        return result

    _, instance = run(work, cache_bytes=100, pictures_apart=apart)
    runner: Any = instance.model.runner
    assert len(runner.encoded) == encoded

"""Faults injected through the runner: whatever fails, the others' tokens are what they would be alone."""

import asyncio
import random
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from service.engine import lane
from service.engine.generation import Generated, Generation, Picture
from service.errors import GenerationFailed, ModelNotReady, PaliServeError
from tests.engine.bench import FOREVER, Bench, run
from tests.fakes import expected_tokens, generation

POISON = 666
ERRORS = [RuntimeError("CUDA error"), MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]


def is_poison(about: Any) -> bool:
    """Whether a generation, or a picture, is the poisoned one's."""
    if isinstance(about, Picture):
        return about.pixels == f"pixels of {POISON}"
    return isinstance(about, Generation) and about.prompt.tokens[-1] == POISON


def neighbours(count: int, first: int = 0) -> list[Generation]:
    """Generations of different lengths; none is the poisoned one."""
    return [generation(answer=3 + index % 5, last=1000 * index + 50) for index in range(first, first + count)]


async def asked(bench: Bench, wanted: list[Generation]) -> list[tuple[int, ...] | BaseException]:
    return await asyncio.gather(*(bench.ask(each) for each in wanted), return_exceptions=True)


def check_books(bench: Bench, **ended: int) -> None:
    """Everyone who was accepted has ended, and nothing is held any more."""
    assert bench.observer.queue == ("fake", 0, 0)
    assert bench.observer.tokens == 0
    assert bench.observer.accepted == sum(bench.observer.ended.values())
    assert not bench.engine._tickets
    (left,) = bench.device._lanes.values()
    assert not left.requests
    assert left.scheduler.load == 0
    for end, count in ended.items():
        assert bench.observer.ended[end] == count


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("phase", ["encode", "prefill", "decode"])
def test_threat_47_and_51_a_step_that_always_raises_fails_the_one_it_raises_for(phase: str, error: Exception) -> None:
    def break_poison(step: str, about: Sequence[Any]) -> None:
        if step == phase and any(is_poison(each) for each in about):
            raise error

    async def work(bench: Bench) -> None:
        bench.runner.before_step = break_poison
        wanted = neighbours(11)
        *answers, failed = await asked(bench, [*wanted, generation(answer=4, last=POISON)])
        assert answers == [expected_tokens(each) for each in wanted]
        assert isinstance(failed, GenerationFailed)
        assert "CUDA" not in failed.message
        assert await asked(bench, wanted) == answers

    check_books(run(work, slots=8), answered=22, failed=1)


def test_threat_47_rows_that_could_not_be_moved_fail_and_who_waits_is_answered() -> None:
    """Of those who are live nobody knows any more which row is whose."""
    broken = threading.Event()

    def break_moves(step: str, about: Sequence[Any]) -> None:
        if step == "move" and not broken.is_set():
            broken.set()
            raise RuntimeError("CUDA error")

    async def work(bench: Bench) -> None:
        bench.runner.before_step = break_moves
        wanted = neighbours(20)
        answers = await asked(bench, wanted)
        right = [answer for answer, each in zip(answers, wanted, strict=True) if answer == expected_tokens(each)]
        failed = [answer for answer in answers if isinstance(answer, GenerationFailed)]
        assert len(right) + len(failed) == len(wanted)
        assert 0 < len(failed) <= 4
        assert await asked(bench, wanted) == [expected_tokens(each) for each in wanted]

    check_books(run(work), cancelled=0)
    assert broken.is_set()


def test_threat_47_a_poisoned_request_is_run_a_bounded_number_of_times() -> None:
    """16 rows are halved four times: the poison runs in five steps at most, and costs its neighbours four more than that at most."""
    runs: list[bool] = []

    def break_poison(step: str, about: Sequence[Any]) -> None:
        if step == "decode":
            runs.append(any(is_poison(each) for each in about))
            if runs[-1]:
                raise RuntimeError("CUDA error")

    async def work(bench: Bench) -> None:
        bench.runner.gate.clear()
        wanted = [generation(answer=1, last=1000 * index + 50) for index in range(15)]
        asking = asyncio.create_task(asked(bench, [*wanted, generation(answer=1, last=POISON)]))
        while bench.engine.waiting + bench.engine.running < 16:  # noqa: ASYNC110
            await asyncio.sleep(0)
        bench.runner.before_step = break_poison
        bench.runner.gate.set()
        *answers, failed = await asking
        assert answers == [expected_tokens(each) for each in wanted]
        assert isinstance(failed, GenerationFailed)

    bench = run(work, slots=16)
    assert runs.count(True) <= 5
    assert len(runs) <= 9
    assert [entry for entry in bench.runner.log if entry[0] == "decode"]


@pytest.mark.parametrize("streamed", [False, True])
def test_threat_47_logits_that_are_no_numbers_fail_their_own_request(streamed: bool) -> None:
    async def work(bench: Bench) -> None:
        bench.runner.unsure = is_poison
        heard: list[int] = []
        poison = generation(answer=4, last=POISON)
        failing = bench.listen(poison, lambda token, probability: heard.append(token)) if streamed else bench.ask(poison)
        wanted = neighbours(7)
        failed, answers = await asyncio.gather(failing, asked(bench, wanted), return_exceptions=True)
        assert answers == [expected_tokens(each) for each in wanted]
        assert isinstance(failed, GenerationFailed)
        assert heard == []

    check_books(run(work, slots=8), answered=7, failed=1)


def test_threat_51_what_did_not_fit_is_given_up_before_the_halves_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the step that failed had made is gone: an error that is kept keeps all that its frames hold."""
    monkeypatch.setattr(lane.logger, "exception", lambda *arguments: None)  # pytest keeps what is logged
    made: list[weakref.ref[threading.Event]] = []

    def fill(step: str, about: Sequence[Any]) -> None:
        assert not any(each() for each in made)
        activations = threading.Event()
        made.append(weakref.ref(activations))
        if len(about) > 1 and step == "prefill":
            raise MemoryError(activations)

    async def work(bench: Bench) -> None:
        bench.runner.before_step = fill
        wanted = neighbours(8)
        assert await asked(bench, wanted) == [expected_tokens(each) for each in wanted]

    check_books(run(work, slots=8), answered=8)
    assert len(made) > 15


def test_threat_47_a_thread_that_hangs_ends_its_requests_and_takes_no_more_until_it_is_back() -> None:
    async def work(bench: Bench) -> None:
        bench.runner.gate.clear()
        asking = asyncio.create_task(asked(bench, neighbours(9)))
        await asyncio.to_thread(bench.runner.entered.wait)
        assert bench.device.rescue(patience=60)
        assert not bench.device.rescue(patience=0)
        bench.engine.give_up("It hangs.")
        assert [type(each) for each in await asking] == [ModelNotReady] * 9
        assert bench.observer.queue == ("fake", 0, 0)
        with pytest.raises(ModelNotReady), bench.engine.reserve(FOREVER):
            pass
        bench.runner.gate.set()
        while not bench.device.rescue(patience=60):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await asked(bench, neighbours(9)) == [expected_tokens(each) for each in neighbours(9)]

    check_books(run(work), failed=9, answered=9)


def test_a_device_that_hangs_does_not_hold_up_the_end() -> None:
    bench = Bench()
    bench.device.start()

    async def main() -> None:
        bench.runner.gate.clear()
        asking = asyncio.create_task(asked(bench, neighbours(1)))
        await asyncio.to_thread(bench.runner.entered.wait)
        bench.device.rescue(patience=0)
        bench.engine.give_up("It hangs.")
        await asking

    asyncio.run(main())
    bench.device.stop()
    bench.runner.gate.set()


REQUESTS, CLIENTS = 100_000, 250


def test_threat_48_nothing_is_left_after_a_hundred_thousand_requests_that_end_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane.logger, "exception", lambda *arguments: None)
    chance = random.Random(48)
    faults = random.Random(84)
    inside: list[int] = []

    def break_some(step: str, about: Sequence[Any]) -> None:
        if faults.random() < 0.002:
            raise MemoryError

    async def one(bench: Bench, number: int) -> None:
        wanted = generation(answer=chance.randrange(6), last=1000 * (number % 900) + 50)
        heard: list[int] = []
        listener = (lambda token, probability: heard.append(token)) if chance.random() < 0.1 else None
        with bench.engine.reserve(FOREVER, caller=f"caller {number % 7}") as place:
            inside.append(number)
            if chance.random() < 0.05:
                raise ValueError("a bad picture")
            generated: Generated = await place.run(wanted, listener)
            assert generated.tokens == expected_tokens(wanted)
            assert heard == (list(generated.tokens) if listener else [])

    async def client(bench: Bench, first: int) -> None:
        for number in range(first, REQUESTS, CLIENTS):
            task = asyncio.create_task(one(bench, number))
            if chance.random() < 0.3:
                # Some leave at once, some while they wait, some in the middle.
                for _ in range(chance.choice((0, 1, 3, 10))):
                    await asyncio.sleep(0)
                task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert outcome is None or isinstance(outcome, ValueError | PaliServeError | asyncio.CancelledError), outcome

    async def work(bench: Bench) -> None:
        bench.runner.before_step = break_some
        bench.runner.unsure = lambda wanted: faults.random() < 0.001
        await asyncio.gather(*(client(bench, first) for first in range(CLIENTS)))
        # The last who left may not have been told of yet.
        while bench.engine.waiting or bench.engine.running:  # noqa: ASYNC110
            await asyncio.sleep(0)

    # Those who left hold their place until the engine has heard of it.
    bench = run(work, slots=32, queue=4 * CLIENTS, seconds=280, queue_seconds=280)
    check_books(bench)
    assert bench.observer.accepted == len(inside) > REQUESTS * 3 // 4
    assert min(bench.observer.ended[end] for end in ("answered", "failed", "cancelled")) > REQUESTS // 100, bench.observer.ended

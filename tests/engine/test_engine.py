import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from unittest import mock

import pytest

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.generation import Generated, Generation
from service.engine.pace import Pace
from service.engine.runner import Sampled
from service.errors import DeadlineExceeded, GenerationFailed, Overloaded
from tests.engine.bench import FOREVER, Bench, run
from tests.fakes import CountingRunner, SilentObserver, expected_tokens, generation


def test_everyone_gets_their_own_answer() -> None:
    async def work(bench: Bench) -> None:
        wanted = [generation(answer=index % 7, last=1000 * index) for index in range(40)]
        answers = await asyncio.gather(*(bench.ask(each) for each in wanted))
        assert answers == [expected_tokens(each) for each in wanted]

    bench = run(work)
    assert bench.observer.queue == ("fake", 0, 0)
    assert max(size for _, size in bench.observer.batches) == 4


def test_a_full_queue_refuses_at_the_door() -> None:
    async def work(bench: Bench) -> None:
        bench.runner.gate.clear()
        two_places = (bench.engine.reserve(FOREVER), bench.engine.reserve(FOREVER))
        with two_places[0], two_places[1], pytest.raises(Overloaded, match="queue of fake is full"), bench.engine.reserve(FOREVER):
            pass
        assert bench.engine.waiting == 0

    run(work, queue=2)


def test_threat_49_who_floods_the_queue_neither_shuts_out_nor_holds_up_another_caller() -> None:
    async def work(bench: Bench) -> None:
        ended: list[str] = []

        async def ask(caller: str) -> None:
            with bench.engine.reserve(FOREVER, caller) as place:
                await place.run(generation(answer=1))
            ended.append(caller)

        bench.runner.gate.clear()
        flood = [asyncio.create_task(ask("flood")) for _ in range(20)]
        await asyncio.to_thread(bench.runner.entered.wait)
        # One runs, and has left its place.
        flood.append(asyncio.create_task(ask("flood")))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await ask("flood")
        other = asyncio.create_task(ask("other"))
        await asyncio.sleep(0)
        bench.runner.gate.set()
        await asyncio.gather(other, *flood)
        assert ended.index("other") <= 3

    run(work, slots=1, queue=20)


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door() -> None:
    async def work(bench: Bench) -> None:
        for tick in range(200):
            bench.engine._pace.ended(now=float(tick), waiting=1)  # one request a second
        soon = time.monotonic() + 1
        places = (bench.engine.reserve(FOREVER), bench.engine.reserve(FOREVER))
        with places[0], places[1], pytest.raises(Overloaded, match="longer than its timeout") as refusal, bench.engine.reserve(soon):
            pass
        assert refusal.value.retry_after == pytest.approx(2, rel=0.05)


def test_a_deadline_that_has_passed_is_refused_at_the_door() -> None:
    async def work(bench: Bench) -> None:
        with pytest.raises(DeadlineExceeded), bench.engine.reserve(deadline=0.0):
            pass

    run(work)


def test_cancelling_frees_the_slot_for_the_next() -> None:
    async def work(bench: Bench) -> None:
        endless = asyncio.create_task(bench.ask(generation(answer=10**9, max_tokens=10**9)))
        await asyncio.to_thread(bench.runner.entered.wait)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        assert await bench.ask(generation(answer=3)) == (101, 102, 103)

    assert run(work, slots=1).observer.queue == ("fake", 0, 0)


def test_the_deadline_ends_a_running_request() -> None:
    async def work(bench: Bench) -> None:
        late = Generation(generation(answer=10**9).prompt, max_tokens=10**9, deadline=0.0)
        with pytest.raises(DeadlineExceeded), bench.engine.reserve(FOREVER) as place:
            await place.run(late)

    run(work)


def test_a_step_that_fails_fails_its_requests_and_nobody_else() -> None:
    async def work(bench: Bench) -> None:
        def break_poison(phase: str, generations: Sequence[Generation]) -> None:
            if phase == "prefill" and any(each.prompt.tokens[-1] == 666 for each in generations):
                raise RuntimeError("poison")

        bench.runner.before_step = break_poison
        with pytest.raises(GenerationFailed) as failure:
            await bench.ask(generation(answer=2, last=666))
        assert "poison" not in failure.value.message
        assert await bench.ask(generation(answer=2)) == (101, 102)

    assert run(work).observer.queue == ("fake", 0, 0)


def test_stopping_finishes_what_was_accepted() -> None:
    bench = Bench()
    bench.runner.gate.clear()
    bench.device.start()

    async def main() -> None:
        answers = asyncio.gather(*(bench.ask(generation(answer=5, last=index)) for index in range(20)))
        await asyncio.to_thread(lambda: None)  # all have been submitted by now
        stopping = asyncio.create_task(asyncio.to_thread(bench.device.stop))
        bench.runner.gate.set()
        assert len(await answers) == 20
        await stopping

    asyncio.run(main())
    assert not bench.device.is_alive(patience=1)


def test_a_stuck_step_is_seen_as_not_alive() -> None:
    async def work(bench: Bench) -> None:
        assert bench.device.is_alive(patience=0)
        bench.runner.gate.clear()
        asking = asyncio.create_task(bench.ask(generation(answer=1)))
        await asyncio.to_thread(bench.runner.entered.wait)
        assert not bench.device.is_alive(patience=0)
        assert bench.device.is_alive(patience=60)
        bench.runner.gate.set()
        await asking

    run(work)


def test_a_place_is_good_for_one_generation() -> None:
    async def work(bench: Bench) -> None:
        with bench.engine.reserve(FOREVER) as place:
            await place.run(generation(answer=1))
            with pytest.raises(RuntimeError):
                await place.run(generation(answer=1))

    run(work)


def test_the_pace_is_the_mean_time_between_ends_while_others_wait() -> None:
    pace = Pace()
    assert pace.wait(100) == 0
    for tick in range(1000):
        pace.ended(now=0.1 * tick, waiting=5)
    assert pace.wait(10) == pytest.approx(1.0, rel=0.01)
    pace.ended(now=100.0, waiting=0)
    pace.ended(now=5000.0, waiting=1)  # an idle hour says nothing about the pace
    assert pace.wait(10) == pytest.approx(1.0, rel=0.1)


def test_threat_49_no_more_wait_than_are_begun_in_the_time_that_they_may() -> None:
    pace = Pace()
    assert pace.places(256, 2.0) == 256  # nothing is known yet
    for tick in range(1000):
        pace.ended(now=0.02 * tick, waiting=5)
    assert pace.places(256, 2.0) == pytest.approx(100, abs=1)
    assert pace.places(256, 60.0) == 256
    assert pace.places(80, 2.0) == 80
    assert pace.places(256, 0.1) == 64  # a whole batch, however slow
    assert pace.places(8, 0.1) == 8


def test_threat_49_a_slow_engine_is_full_before_its_queue_is() -> None:
    async def work(bench: Bench) -> None:
        for tick in range(200):
            bench.engine._pace.ended(now=float(tick), waiting=1)  # one request a second
        with ExitStack() as places:
            for _ in range(64):
                places.enter_context(bench.engine.reserve(FOREVER))
            assert bench.engine.most_waiting == 64
            with pytest.raises(Overloaded, match="64 requests are waiting") as refusal, bench.engine.reserve(FOREVER):
                pass
            assert refusal.value.retry_after == pytest.approx(64, rel=0.05)

    assert run(work).observer.refused == ["queue_full"]


def test_who_was_cancelled_just_before_an_unload_is_told_of() -> None:
    async def work(bench: Bench) -> None:
        bench.runner.gate.clear()
        asking = asyncio.create_task(bench.ask(generation(answer=9)))
        await asyncio.to_thread(bench.runner.entered.wait)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        unloading = asyncio.create_task(asyncio.to_thread(bench.engine.unload))
        while bench.device._mailbox.qsize() < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        bench.runner.gate.set()
        await unloading
        while bench.engine.running:  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert run(work).observer.queue == ("fake", 0, 0)


def test_a_step_is_tried_again_in_halves_until_the_culprit_is_alone() -> None:
    async def work(bench: Bench) -> None:
        for poisoned in ("prefill", "decode"):

            def break_poison(phase: str, generations: Sequence[Generation], poisoned: str = poisoned) -> None:
                if phase == poisoned and any(each.prompt.tokens[-1] == 666 for each in generations):
                    raise MemoryError

            bench.runner.before_step = break_poison
            wanted = [generation(answer=4, last=1000 * index + 50) for index in range(7)] + [generation(answer=4, last=666)]
            answers = await asyncio.gather(*(bench.ask(each) for each in wanted), return_exceptions=True)
            assert answers[:7] == [expected_tokens(each) for each in wanted[:7]]
            assert isinstance(answers[7], GenerationFailed)

    assert run(work, slots=8).observer.queue == ("fake", 0, 0)


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_loses_nobody() -> None:
    async def work(bench: Bench) -> None:
        def small_only(phase: str, generations: Sequence[Generation]) -> None:
            if len(generations) > 2:
                raise MemoryError

        bench.runner.before_step = small_only
        wanted = [generation(answer=index, last=1000 * index + 50) for index in range(8)]
        assert await asyncio.gather(*(bench.ask(each) for each in wanted)) == [expected_tokens(each) for each in wanted]

    run(work, slots=8)


def test_an_answer_that_takes_longer_than_the_deadline_is_refused_while_others_work() -> None:
    async def work(bench: Bench) -> None:
        for _ in range(200):
            bench.engine._pace.ran(5.0)
        bench.runner.gate.clear()
        soon = time.monotonic() + 2
        with bench.engine.reserve(soon):  # nobody works: it may try, and put the estimate right
            with pytest.raises(Overloaded, match="longer than its timeout"), bench.engine.reserve(soon):
                pass
            with bench.engine.reserve(time.monotonic() + 6):
                pass

    run(work)


def test_instances_share_the_device_by_their_requests() -> None:
    """One request beside thirty gets its turn as often as each of them."""
    order: list[str] = []

    class Counted(CountingRunner):
        def __init__(self, name: str, slots: int) -> None:
            super().__init__(slots)
            self.name = name

        def decode(self, slots: range) -> Sampled:
            order.append(self.name)
            return super().decode(slots)

    ticks = itertools.count()
    device = DeviceLoop(clock=lambda: next(ticks) / 1000)
    engines = {}
    for name, slots in (("busy", 30), ("calm", 4)):
        engines[name] = Engine(name, device, EngineLimits(), SilentObserver())
        engines[name].load(lambda threads, name=name, slots=slots: Counted(name, slots))  # type: ignore[misc]

    async def one(name: str) -> None:
        with engines[name].reserve(FOREVER) as place:
            await place.run(generation(answer=40))

    async def main() -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(one("calm"), *(one("busy") for _ in range(30)))

    device.start()
    asyncio.run(main())
    device.stop()
    first = order.index("calm")
    share = order[first : first + 200].count("calm")
    assert 1 <= share <= 40


class Ears:
    """A listener that keeps what it is told, on which thread, and may raise or call back at some token."""

    def __init__(self, at: int | None = None, then: Callable[[], object] = lambda: None) -> None:
        self.heard: list[tuple[int, float]] = []
        self.threads: set[threading.Thread] = set()
        self._at, self._then = at, then

    def __call__(self, token: int, probability: float) -> None:
        self.heard.append((token, probability))
        self.threads.add(threading.current_thread())
        if token == self._at:
            self._then()


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("wanted", [generation(answer=5), generation(answer=0), generation(answer=9, max_tokens=3)])
def test_a_listener_hears_every_token_but_the_end_before_the_answer(wanted: Generation) -> None:
    async def work(bench: Bench) -> None:
        ears = Ears()
        generated = await bench.listen(wanted, ears)
        assert generated.tokens == expected_tokens(wanted)
        assert ears.heard == list(zip(generated.tokens, generated.probabilities, strict=True))
        assert ears.threads <= {threading.current_thread()}

    run(work)


def test_listeners_hear_their_own_request_only() -> None:
    async def work(bench: Bench) -> None:
        ears = [Ears() for _ in range(30)]
        wanted = [generation(answer=index % 7, last=1000 * index) for index in range(30)]
        await asyncio.gather(*(bench.listen(each, ear) for each, ear in zip(wanted, ears, strict=True)), bench.ask(generation(answer=9)))
        assert [[token for token, _ in ear.heard] for ear in ears] == [list(expected_tokens(each)) for each in wanted]

    run(work, slots=8)


async def wakeups(work: Awaitable[object]) -> int:
    """How often another thread wakes the event loop meanwhile."""
    loop = asyncio.get_running_loop()
    with mock.patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe) as wake:
        await work
    return wake.call_count


def test_a_step_wakes_the_event_loop_once_and_only_where_there_is_news() -> None:
    async def work(bench: Bench) -> None:
        assert await wakeups(bench.ask(generation(answer=50))) == 2, "it starts, it ends"
        steps = len(bench.observer.batches)
        answers = asyncio.gather(*(bench.listen(generation(answer=50), Ears()) for _ in range(3)), bench.ask(generation(answer=50)))
        assert 50 <= await wakeups(answers) <= len(bench.observer.batches) + 1 - steps

    run(work)


def test_a_cancelled_request_hears_nothing_more() -> None:
    async def work(bench: Bench) -> None:
        def leave() -> None:
            asking.cancel()

        ears = Ears(at=103, then=leave)
        asking = asyncio.create_task(bench.listen(generation(answer=10**9, max_tokens=10**9), ears))
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await bench.ask(generation(answer=3)) == (101, 102, 103)
        assert [token for token, _ in ears.heard] == [101, 102, 103]

    assert run(work, slots=1).observer.queue == ("fake", 0, 0)


@pytest.mark.parametrize("error", [ValueError("mine"), StopIteration(), asyncio.CancelledError()])
def test_a_listener_that_raises_ends_its_own_request_only(error: BaseException) -> None:
    async def work(bench: Bench) -> None:
        deaf, ears = Ears(at=102, then=lambda: fail(error)), Ears()
        failing = bench.listen(generation(answer=10**9, max_tokens=10**9), deaf)
        failed, answered = await asyncio.gather(failing, bench.listen(generation(answer=20), ears), return_exceptions=True)
        assert failed is error if isinstance(error, ValueError) else isinstance(failed, RuntimeError)
        assert isinstance(answered, Generated)
        assert len(deaf.heard) == 2
        assert len(ears.heard) == 20
        assert await bench.ask(generation(answer=3)) == (101, 102, 103)

    assert run(work, slots=2).observer.queue == ("fake", 0, 0)


def test_a_listener_that_cancels_its_request_may_still_raise() -> None:
    async def work(bench: Bench) -> None:
        def both() -> None:
            asking.cancel()
            raise ValueError

        asking = asyncio.create_task(bench.listen(generation(answer=10**9, max_tokens=10**9), Ears(at=101, then=both)))
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await bench.ask(generation(answer=1)) == (101,)

    run(work, slots=1)


def test_a_failing_step_is_heard_as_the_error_behind_the_tokens() -> None:
    async def work(bench: Bench) -> None:
        bench.runner.before_step = lambda phase, generations: fail(RuntimeError("poison")) if len(ears.heard) >= 3 else None
        ears = Ears()
        with pytest.raises(GenerationFailed):
            await bench.listen(generation(answer=10**9, max_tokens=10**9), ears)
        assert [token for token, _ in ears.heard][:3] == [101, 102, 103]

    run(work)

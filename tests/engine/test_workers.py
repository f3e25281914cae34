"""Real processes around the counting runner."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from service.engine.device import Report, Submission
from service.engine.engine import Engine, EngineLimits
from service.engine.generation import Generation, Picture, Prompt
from service.engine.runner import ModelRunner, Sampled
from service.engine.worker import Board
from service.engine.worker_link import WorkerLink, least_busy
from service.engine.workers import Workers
from service.errors import GenerationFailed, ModelNotReady, OperatorError
from tests.fakes import CountingRunner, SilentObserver, expected_tokens, generation

FATAL, ENDLESS, ADAPTERS = 666, 777, 888
FOREVER = float("inf")


class DyingRunner(CountingRunner):
    """Ends its process, or never comes back, when a prompt says so. Adds up the places of its adapters where one asks for that."""

    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        for each in generations:
            if each.prompt.tokens[-1] == FATAL:
                os._exit(3)
            if each.prompt.tokens[-1] == ENDLESS:
                threading.Event().wait()
        sampled = super().prefill(generations, first_slot)
        worth = sum(self.adapters)
        return replace(sampled, tokens=[token + (worth if token == ADAPTERS + 1 else 0) for token in sampled.tokens])

    def read_adapter(self, folder: str) -> object:
        if folder == "fatal":
            os._exit(4)
        return super().read_adapter(folder)


def make_runner(threads: Callable[[], int]) -> ModelRunner:
    return DyingRunner()


def make_none(threads: Callable[[], int]) -> ModelRunner:
    raise OperatorError("there are no weights")


def make_slowly(folder: Path, threads: Callable[[], int]) -> ModelRunner:
    """Waits until it is told, through a pipe of its own, to go on."""
    pipe = folder / str(os.getpid())
    os.mkfifo(pipe)
    pipe.read_bytes()
    return DyingRunner()


def go_on(folder: Path) -> None:
    """Let those go on who wait; each reads its pipe once."""
    for pipe in folder.glob("*[0-9]"):
        pipe.write_bytes(b"")
        pipe.rename(pipe.with_suffix(".done"))


def make_broken(threads: Callable[[], int]) -> ModelRunner:
    raise ZeroDivisionError


def nothing() -> None:
    """What a worker begins with."""


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2, 4, nothing, preload=[])
    yield made
    made.kill()


def run(workers: Workers, work: Callable[[Engine], Awaitable[None]]) -> SilentObserver:
    observer = SilentObserver()
    engine = Engine("fake", workers, EngineLimits(), observer)
    assert engine.load(make_runner).slots == 4

    async def main() -> None:
        async with asyncio.timeout(60):
            await work(engine)

    asyncio.run(main())
    return observer


async def until(holds: Callable[[], bool]) -> None:
    """Processes tell of their state through memory, not through events."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def ask(engine: Engine, wanted: Generation) -> tuple[int, ...]:
    with engine.reserve(FOREVER) as place:
        return (await place.run(wanted)).tokens


def test_everyone_gets_their_own_answer(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        wanted = [generation(answer=index % 7, last=1000 * index + 50) for index in range(60)]
        assert await asyncio.gather(*(ask(engine, each) for each in wanted)) == [expected_tokens(each) for each in wanted]

    observer = run(workers, work)
    assert observer.queue == ("fake", 0, 0)
    assert sum(size for phase, size in observer.batches if phase == "prefill") == 60


def test_threat_46_a_picture_is_sent_and_encoded_once_and_forgotten_with_its_last_holder(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        picture = Picture("pixels", (64, 48))
        for index in range(8):
            wanted = Generation(Prompt((picture,), (3, 100 * index + 50)), 100)
            assert await ask(engine, wanted) == expected_tokens(wanted)
        number = picture.number
        assert [number in worker.pictures for worker in workers._workers].count(True) == 1
        assert picture.answered
        del picture, wanted
        gc.collect()
        assert not any(number in worker.pictures for worker in workers._workers)
        assert await ask(engine, generation(answer=2)) == (101, 102)

    observer = run(workers, work)
    assert [size for phase, size in observer.batches if phase == "vision"] == [1, 1]


def test_threat_48_of_a_worker_that_was_replaced_nothing_is_kept_by_the_pictures_it_knew(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        picture = Picture("pixels", (64, 48))
        wanted = Generation(Prompt((picture,), (3, 50)), 100)
        assert await ask(engine, wanted) == expected_tokens(wanted)
        held: list[int] = []
        for _ in range(4):
            known = next(worker for worker in workers._workers if picture.number in worker.pictures)
            known.process.kill()
            del known
            await until(lambda: not any(picture.number in worker.pictures for worker in workers._workers))
            await until(lambda: all(worker.is_ready for worker in workers._workers))
            assert await ask(engine, wanted) == expected_tokens(wanted)
            gc.collect()
            held.append(len(os.listdir("/proc/self/fd")))
            # A thread may just be about to end.
            await until(lambda: len(os.listdir("/proc/self/fd")) <= held[0])

    run(workers, work)


def test_a_worker_that_knows_the_picture_is_preferred_only_while_it_is_not_much_busier(workers: Workers) -> None:
    run(workers, lambda engine: asyncio.sleep(0))
    first, second = workers._workers
    picture = Picture("pixels", (64, 48), number=5)
    second.pictures.add(5)
    assert least_busy(workers._workers, [picture]) is second
    assert least_busy(workers._workers, [Picture("others", (64, 48))]) is first
    one = Submission(1, generation(answer=1), arrived=0.0)
    second.running |= {("fake", number): one for number in (1, 2)}
    assert least_busy(workers._workers, [picture]) is second
    second.running["fake", 3] = one
    assert least_busy(workers._workers, [picture]) is first
    second.running.clear()


def test_adapters_are_told_to_every_worker_and_to_one_that_takes_the_place_of_another(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        workers.adopt("fake", 1, "one")
        workers.adopt("fake", 2, "two")
        with pytest.raises(OperatorError, match="another base"):
            workers.adopt("fake", 3, "bad")
        workers.abandon("fake", 2)
        # The answer's first token counts on from what the worker's adapters are worth.
        assert await ask(engine, generation(answer=1, last=ADAPTERS)) == (ADAPTERS + 1 + 1,)
        with pytest.raises(GenerationFailed):
            await ask(engine, generation(answer=1, last=FATAL))
        assert await ask(engine, generation(answer=1, last=ADAPTERS)) == (ADAPTERS + 1 + 1,)

    run(workers, work)


def test_a_worker_that_dies_over_an_adapter_is_replaced_and_the_adapter_refused(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(OperatorError, match="ended"):
            await asyncio.to_thread(workers.adopt, "fake", 1, "fatal")
        await until(lambda: all(worker.is_ready for worker in workers._workers))
        await asyncio.to_thread(workers.adopt, "fake", 1, "one")
        assert await asyncio.gather(*(ask(engine, generation(answer=1, last=ADAPTERS)) for _ in range(8))) == [(ADAPTERS + 2,)] * 8

    run(workers, work)
    assert workers.is_alive(patience=60)


def test_a_successor_is_asked_only_when_it_has_all_that_the_others_have(workers: Workers, tmp_path: Path) -> None:
    slow = Engine("slow", workers, EngineLimits(), SilentObserver())

    async def work(engine: Engine) -> None:
        loading = asyncio.create_task(asyncio.to_thread(slow.load, partial(make_slowly, tmp_path)))
        await until(lambda: len(os.listdir(tmp_path)) == workers.copies)
        await asyncio.to_thread(go_on, tmp_path)
        await loading
        workers.adopt("fake", 1, "one")
        with pytest.raises(GenerationFailed):
            await ask(engine, generation(answer=1, last=FATAL))
        # The successor has the first instance, and waits with the second.
        await until(lambda: len(os.listdir(tmp_path)) == workers.copies + 1)
        for _ in range(4):
            assert await ask(slow, generation(3)) == expected_tokens(generation(3))
            assert await ask(engine, generation(answer=1, last=ADAPTERS)) == (ADAPTERS + 2,)
        assert [worker.is_ready for worker in workers._workers].count(True) == workers.copies - 1
        await asyncio.to_thread(go_on, tmp_path)
        await until(lambda: all(worker.is_ready for worker in workers._workers))
        answers = await asyncio.gather(*(ask(engine, generation(answer=1, last=ADAPTERS)) for _ in range(8)))
        assert answers == [(ADAPTERS + 2,)] * 8

    run(workers, work)


def test_threat_47_nobody_waits_for_a_successor_that_is_hard_to_make(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where the fork server was killed too."""
    asked, goes_on, spawn = threading.Event(), threading.Event(), workers._spawn

    def spawn_slowly(seat: int) -> WorkerLink:
        asked.set()
        goes_on.wait(60)
        return spawn(seat)

    async def work(engine: Engine) -> None:
        monkeypatch.setattr(workers, "_spawn", spawn_slowly)
        workers._workers[0].process.kill()
        await until(asked.is_set)
        wanted = generation(answer=2)
        try:
            answer = await asyncio.to_thread(lambda: asyncio.run(asyncio.wait_for(ask(engine, wanted), 20)))
        finally:
            goes_on.set()
        assert answer == expected_tokens(wanted)
        await until(lambda: all(worker.is_ready for worker in workers._workers))

    run(workers, work)


def test_threat_47_a_successor_that_never_comes_to_work_is_seen(workers: Workers, tmp_path: Path) -> None:
    slow = Engine("slow", workers, EngineLimits(), SilentObserver())

    async def work(engine: Engine) -> None:
        loading = asyncio.create_task(asyncio.to_thread(slow.load, partial(make_slowly, tmp_path)))
        await until(lambda: len(os.listdir(tmp_path)) == workers.copies)
        await asyncio.to_thread(go_on, tmp_path)
        await loading
        workers._workers[0].process.kill()
        await until(lambda: len(os.listdir(tmp_path)) == workers.copies + 1)
        assert workers.is_alive(patience=60)
        now, later = workers._clock, 700.0
        workers._clock = lambda: now() + later
        assert not workers.is_alive(patience=60)
        await asyncio.to_thread(go_on, tmp_path)
        await until(lambda: workers.is_alive(patience=60))
        assert await ask(engine, generation(answer=2)) == (101, 102)

    run(workers, work)


def test_a_successor_without_the_adapters_of_the_others_is_not_asked(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        workers.adopt("fake", 1, "one")
        # As if its folder were gone.
        workers._adopted["fake", 1] = replace(workers._adopted["fake", 1], folder="bad")
        with pytest.raises(GenerationFailed):
            await ask(engine, generation(answer=1, last=FATAL))
        await until(lambda: not workers.is_alive(patience=60))
        assert [worker.is_ready for worker in workers._workers].count(True) == 1

    run(workers, work)


def test_threat_47_a_dying_worker_fails_its_own_requests_and_is_replaced(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        doomed = workers._workers[0].process.pid
        with pytest.raises(GenerationFailed, match="ended"):
            await ask(engine, generation(answer=3, last=FATAL))
        wanted = [generation(answer=index % 5, last=1000 * index + 50) for index in range(20)]
        assert await asyncio.gather(*(ask(engine, each) for each in wanted)) == [expected_tokens(each) for each in wanted]
        await until(lambda: workers._workers[0].is_ready)
        assert workers._workers[0].process.pid != doomed
        assert await asyncio.gather(*(ask(engine, each) for each in wanted)) == [expected_tokens(each) for each in wanted]

    assert run(workers, work).queue == ("fake", 0, 0)
    assert workers.is_alive(patience=60)


def test_threat_47_a_step_that_never_ends_is_seen(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        stuck = asyncio.create_task(ask(engine, generation(answer=3, last=ENDLESS)))
        await until(lambda: not workers.is_alive(patience=0))
        assert workers.is_alive(patience=60)
        assert await ask(engine, generation(answer=2)) == (101, 102)
        stuck.cancel()

    run(workers, work)


def test_threat_47_who_waits_for_a_step_that_never_ends_is_told_and_the_worker_replaced(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        doomed, other = workers._workers
        stuck = [asyncio.create_task(ask(engine, generation(answer=3, last=ENDLESS)))]
        await until(lambda: bool(workers._board.stepping[0]))
        other.is_ready = False
        stuck += [asyncio.create_task(ask(engine, generation(answer=3))) for _ in range(3)]
        await until(lambda: len(doomed.running) == 4)
        other.is_ready = True
        assert workers.rescue(patience=60)
        assert workers.is_alive(patience=60)
        assert workers.rescue(patience=0)
        assert not workers.is_alive(patience=60)
        failed = await asyncio.gather(*stuck, return_exceptions=True)
        assert [type(each) for each in failed] == [ModelNotReady] * 4
        assert await ask(engine, generation(answer=2)) == (101, 102)
        await until(lambda: workers.is_alive(patience=60))
        assert workers._workers[0] is not doomed
        answers = await asyncio.gather(*(ask(engine, generation(answer=3)) for _ in range(8)))
        assert answers == [(101, 102, 103)] * 8

    observer = run(workers, work)
    assert observer.queue == ("fake", 0, 0)
    assert observer.ended == {"failed": 4, "answered": 9}


def test_threat_47_a_worker_that_stands_still_between_two_steps_is_seen(workers: Workers) -> None:
    now = 1000.0
    run(workers, lambda engine: asyncio.sleep(0))
    first, second = workers._workers
    second.running["fake", 1] = Submission(1, generation(answer=1), arrived=0.0)
    assert second.unmoved(0.0, now) == 0, "nobody has looked before"
    assert second.unmoved(0.0, now + 10) == 10
    second.running.clear()
    assert first.unmoved(0.0, now) == 0
    assert first.unmoved(0.0, now + 50) == 0, "it has nothing to do"
    first.running["fake", 1] = Submission(1, generation(answer=1), arrived=0.0)
    assert first.unmoved(0.0, now + 60) == 10
    assert first.unmoved(7.0, now + 70) == 0, "it has begun a step"
    assert first.unmoved(7.0, now + 90) == 20
    first.running.clear()


def test_threat_47_a_killed_worker_costs_those_it_had_begun_and_the_others_are_given_away(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        killed, other = workers._workers
        other.is_ready = False
        os.kill(killed.process.pid or 0, signal.SIGSTOP)
        wanted = [generation(answer=index, last=1000 * index + 50) for index in range(6)]
        asking = [asyncio.create_task(ask(engine, each)) for each in wanted]
        await until(lambda: len(killed.running) == 6)
        # As if the first two had begun.
        killed.begun.update(list(killed.running)[:2])
        other.is_ready = True
        killed.process.kill()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(each) for each in answers[:2]] == [GenerationFailed] * 2
        assert answers[2:] == [expected_tokens(each) for each in wanted[2:]]

    observer = run(workers, work)
    assert observer.ended == {"failed": 2, "answered": 4}


def test_threat_47_a_request_is_given_away_once(workers: Workers) -> None:
    run(workers, lambda engine: asyncio.sleep(0))
    first = workers._workers[0]
    one, again = (Submission(number, generation(answer=1), arrived=0.0, again=number == 2) for number in (1, 2))
    first.running.update({("fake", 1): one, ("fake", 2): again})
    assert first.take_back() == ([("fake", again)], [("fake", one)])
    assert not first.running


def test_threat_50_who_left_a_killed_worker_is_not_given_to_another(workers: Workers) -> None:
    """Whose instance may be gone by then, and that other worker with it."""

    async def work(engine: Engine) -> None:
        killed, other = workers._workers
        other.is_ready = False
        os.kill(killed.process.pid or 0, signal.SIGSTOP)
        asking = asyncio.create_task(ask(engine, generation(answer=2)))
        await until(lambda: bool(killed.running))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        unloading = asyncio.create_task(asyncio.to_thread(engine.unload))
        await until(lambda: not killed.unloading.empty() or "fake" not in workers._loads)
        other.is_ready = True
        killed.process.kill()
        await unloading
        await until(lambda: all(worker.is_ready for worker in workers._workers))
        await until(lambda: engine.waiting == 0)
        assert workers._workers[1] is other
        assert other.process.is_alive()

    observer = run(workers, work)
    assert observer.ended == {"cancelled": 1}


def test_threat_47_while_no_worker_is_ready_requests_are_refused_at_once(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        with engine.reserve(FOREVER) as place:
            for worker in workers._workers:
                worker.is_ready = False
            with pytest.raises(ModelNotReady):
                await place.run(generation(answer=1))
        with pytest.raises(ModelNotReady), engine.reserve(FOREVER):
            pass
        for worker in workers._workers:
            worker.is_ready = True
        assert await ask(engine, generation(answer=2)) == (101, 102)

    assert run(workers, work).queue == ("fake", 0, 0)


def test_threat_50_cancelling_frees_the_slot(workers: Workers) -> None:
    async def work(engine: Engine) -> None:
        asks = [asyncio.create_task(ask(engine, generation(answer=10**9, max_tokens=10**9))) for _ in range(8)]
        await until(lambda: engine.running == len(asks))
        for each in asks:
            each.cancel()
        wanted = [generation(answer=3) for _ in range(8)]
        assert await asyncio.gather(*(ask(engine, each) for each in wanted)) == [(101, 102, 103)] * 8

    assert run(workers, work).queue == ("fake", 0, 0)


def test_stopping_finishes_what_was_accepted() -> None:
    workers = Workers(2, 2, nothing, preload=[])
    reports: list[Report] = []
    workers.load("fake", make_runner, 100, reports.append)
    for number in range(20):
        workers.submit("fake", Submission(number, generation(answer=5, last=number), arrived=0.0))
    workers.stop()
    assert sorted(number for report in reports for number, _ in report.ended) == list(range(20))
    assert all(worker.process.exitcode == 0 for worker in workers._workers)


@pytest.mark.parametrize(("make", "said"), [(make_none, "there are no weights"), (make_broken, "the log says why")])
def test_what_hinders_loading_is_said(workers: Workers, make: Callable[[Callable[[], int]], ModelRunner], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        workers.load("fake", make, 100, lambda report: None)


def test_a_worker_that_dies_while_it_loads_is_not_replaced() -> None:
    workers = Workers(1, 1, partial(os._exit, 4), preload=[])
    with pytest.raises(OperatorError, match="ended while it loaded"):
        workers.load("fake", make_runner, 100, lambda report: None)
    assert not workers.is_alive(patience=60)


def test_threads_are_shared_among_those_who_work() -> None:
    stepping = [0.0, 0.0, 0.0]
    board = Board(stepping, [0.0] * 3, [0.0, 0.0], threads=4)
    assert board.share_of_threads() == 4
    stepping[1] = 5.0
    assert board.share_of_threads() == 4
    stepping[0] = 5.0
    assert board.share_of_threads() == 2
    stepping[2] = 5.0
    assert board.share_of_threads() == 1


def test_an_instance_is_unloaded_and_loaded_again_beside_another(workers: Workers) -> None:
    observer = SilentObserver()
    engines = [Engine(name, workers, EngineLimits(), observer) for name in ("one", "two")]
    for engine in engines:
        engine.load(make_runner)

    async def asked(engine: Engine) -> tuple[int, ...]:
        with engine.reserve(FOREVER) as place:
            return (await place.run(generation(3))).tokens

    for _ in range(3):
        assert asyncio.run(asked(engines[0])) == expected_tokens(generation(3))
        engines[0].unload()
        assert asyncio.run(asked(engines[1])) == expected_tokens(generation(3))
        assert engines[0].load(make_runner).slots == 4
    assert asyncio.run(asked(engines[0])) == expected_tokens(generation(3))


def test_requests_to_others_are_answered_while_an_instance_is_loaded(workers: Workers, tmp_path: Path) -> None:
    observer = SilentObserver()
    slow = Engine("slow", workers, EngineLimits(), observer)
    loading = threading.Thread(target=slow.load, args=(partial(make_slowly, tmp_path),))

    async def work(engine: Engine) -> None:
        loading.start()
        await until(lambda: len(list(tmp_path.iterdir())) == workers.copies)
        wanted = [generation(answer=3, last=100 * index + 50) for index in range(20)]
        assert await asyncio.gather(*(ask(engine, each) for each in wanted)) == [expected_tokens(each) for each in wanted]
        assert loading.is_alive()
        await asyncio.to_thread(go_on, tmp_path)
        await asyncio.to_thread(loading.join)
        assert await ask(slow, generation(3)) == expected_tokens(generation(3))

    run(workers, work)


def test_a_load_that_failed_leaves_the_others_alone(workers: Workers) -> None:
    observer = SilentObserver()
    good, bad = (Engine(name, workers, EngineLimits(), observer) for name in ("good", "bad"))
    good.load(make_runner)
    for _ in range(2):
        with pytest.raises(OperatorError, match="there are no weights"):
            bad.load(make_none)

    async def asked() -> tuple[int, ...]:
        with good.reserve(FOREVER) as place:
            return (await place.run(generation(3))).tokens

    assert asyncio.run(asked()) == expected_tokens(generation(3))
    assert workers.is_alive(60)


def test_a_worker_that_dies_is_replaced_with_what_is_loaded_then(workers: Workers) -> None:
    observer = SilentObserver()
    kept, dropped = (Engine(name, workers, EngineLimits(), observer) for name in ("kept", "dropped"))
    kept.load(make_runner)
    dropped.load(make_runner)
    dropped.unload()

    async def main() -> None:
        with kept.reserve(FOREVER) as place, pytest.raises(GenerationFailed):
            await place.run(generation(3, last=FATAL))
        await until(lambda: all(worker.is_ready for worker in workers._workers))
        answers = []
        for _ in range(4):
            with kept.reserve(FOREVER) as place:
                answers.append((await place.run(generation(3))).tokens)
        assert answers == [expected_tokens(generation(3))] * 4

    asyncio.run(main())
    dropped.load(make_runner)
    dropped.unload()


LEFT = """
import os
from service.engine.workers import Workers
from tests.engine.test_workers import make_runner, nothing

workers = Workers(2, 2, nothing, preload=[])
workers.load("fake", make_runner, 100, lambda report: None)
print(*(worker.process.pid for worker in workers._workers), flush=True)
raise SystemExit(5)
"""


def test_a_process_that_fails_ends_and_leaves_no_worker_behind() -> None:
    failed = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 5, failed.stderr
    for number in failed.stdout.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


def test_a_load_after_the_end_is_refused() -> None:
    workers = Workers(1, 1, nothing, preload=[])
    Engine("fake", workers, EngineLimits(), SilentObserver()).load(make_runner)
    workers.stop()
    with pytest.raises(OperatorError):
        Engine("late", workers, EngineLimits(), SilentObserver()).load(make_runner)

"""The life of one instance, with loads that the test holds and ends."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from service.errors import ModelNotReady, OperatorError, Overloaded
from service.instances.instance import Instance
from service.instances.keeper import Keeper, State, Upkeep
from service.instances.shelf import AdapterShelf
from tests.instances.instance_fake import instance


class Life:
    """A keeper, the loads and unloads that it asks for, and the states it goes through."""

    def __init__(self, on_demand: bool = True, queue: int = 10) -> None:
        self.now = 100.0
        self.made = instance("it", 224)
        self.error: Exception | None = None
        self.loads = 0
        self.unloaded: list[Instance] = []
        self.states: list[State] = []
        self.go_on = asyncio.Event()
        self.entered = asyncio.Event()
        self.refused: list[str] = []
        self.observed: Callable[[str, State], None] = lambda name, state: None
        self.turn = asyncio.Lock()
        upkeep = Upkeep(self._load, self._unload, self._observe, self.refused.append, self.turn)
        self.keeper = Keeper(self.made.description, on_demand, queue, upkeep, lambda: self.now)

    def _observe(self, name: str, state: State) -> None:
        self.states.append(state)
        self.observed(name, state)

    async def _load(self, name: str) -> Instance:
        self.loads += 1
        self.entered.set()
        await self.go_on.wait()
        if self.error:
            raise self.error
        return self.made

    async def _unload(self, instance: Instance) -> None:
        self.unloaded.append(instance)

    async def asked(self) -> Instance:
        async with self.keeper.lease() as leased:
            return leased


def run(work: Callable[[Life], Awaitable[None]], on_demand: bool = True, queue: int = 10) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await work(Life(on_demand, queue))

    asyncio.run(main())


def test_requests_wait_for_one_load() -> None:
    async def main(life: Life) -> None:
        assert (life.keeper.state, life.keeper.description.state) == (State.COLD, "cold")
        asking = [asyncio.create_task(life.asked()) for _ in range(5)]
        await life.entered.wait()
        assert life.keeper.state is State.LOADING
        asking[0].cancel()
        life.go_on.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [life.made] * 4
        assert (life.loads, life.states) == (1, [State.LOADING, State.WARM])
        await life.keeper.cool()
        assert life.unloaded == [life.made]

    run(main)


def test_who_waits_is_bounded() -> None:
    async def main(life: Life) -> None:
        asking = [asyncio.create_task(life.asked()) for _ in range(2)]
        await life.entered.wait()
        with pytest.raises(Overloaded):
            await life.asked()
        life.go_on.set()
        await asyncio.gather(*asking)

    run(main, queue=2)


def test_an_operator_loads_what_requests_may_not() -> None:
    async def main(life: Life) -> None:
        with pytest.raises(ModelNotReady, match="POST /v1/models/it/load"):
            await life.asked()
        assert life.loads == 0
        life.go_on.set()
        await life.keeper.warm()
        await life.keeper.warm()
        assert (await life.asked(), life.loads) == (life.made, 1)

    run(main, on_demand=False)


def test_unloading_waits_for_who_uses_it_and_others_load_it_again() -> None:
    async def main(life: Life) -> None:
        life.go_on.set()
        async with life.keeper.lease():
            cooling = asyncio.create_task(life.keeper.cool())
            while life.keeper.state is not State.COLD:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert life.unloaded == []
            again = asyncio.create_task(life.asked())
            await asyncio.sleep(0)
            assert life.loads == 1
        await cooling
        assert life.unloaded == [life.made]
        assert await again is life.made
        assert life.loads == 2
        await life.keeper.cool()
        await life.keeper.cool()
        assert len(life.unloaded) == 2

    run(main)


def test_a_failed_load_is_tried_again_later_and_later() -> None:
    async def main(life: Life) -> None:
        life.go_on.set()
        life.error = OperatorError("there are no weights")
        for wait in (1.0, 2.0, 4.0, 8.0):
            with pytest.raises(ModelNotReady, match="the log says why") as caught:
                await life.asked()
            assert caught.value.retry_after == wait
            assert life.keeper.state is State.FAILED
            loads = life.loads
            life.now += 0.5
            with pytest.raises(ModelNotReady, match="next attempt") as caught:
                await life.asked()
            assert caught.value.retry_after == wait - 0.5
            assert life.loads == loads
            life.now += wait
        life.error = None
        assert await life.asked() is life.made
        assert life.states[-2:] == [State.LOADING, State.WARM]

    run(main)


def test_an_operator_need_not_wait_for_the_next_attempt() -> None:
    async def main(life: Life) -> None:
        life.go_on.set()
        life.error = RuntimeError("0x7f00")
        with pytest.raises(ModelNotReady) as caught:
            await life.keeper.warm()
        assert "0x" not in caught.value.message
        life.error = None
        await life.keeper.warm()
        assert life.keeper.state is State.WARM

    run(main)


def test_who_waited_is_served_before_it_is_given_back() -> None:
    async def main(life: Life) -> None:
        asking = [asyncio.create_task(life.asked()) for _ in range(3)]
        await life.entered.wait()
        # Comes for the lock while the load is under way, and has it before those who waited have their turn.
        cooling = asyncio.create_task(life.keeper.cool())
        await asyncio.sleep(0)
        asking[2].cancel()
        life.go_on.set()
        assert await asyncio.gather(*asking[:2]) == [life.made] * 2
        await cooling
        assert (life.loads, life.unloaded) == (1, [life.made])

    run(main)


def test_who_leaves_at_the_very_end_of_the_load_holds_nothing() -> None:
    async def main(life: Life) -> None:
        asking = asyncio.create_task(life.asked())
        await life.entered.wait()

        def leave(name: str, state: State) -> None:
            asking.cancel()

        life.observed = leave
        life.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        life.observed = lambda name, state: None
        await life.keeper.cool()
        assert life.unloaded == [life.made]

    run(main)


def test_a_change_goes_on_to_its_end_when_its_caller_leaves() -> None:
    async def main(life: Life) -> None:
        life.go_on.set()
        await life.keeper.warm()
        async with life.keeper.lease():
            cooling = asyncio.create_task(life.keeper.cool())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cooling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cooling
            assert life.unloaded == []
        # It is waited for by the next one who wants the instance.
        await life.keeper.warm()
        assert (life.unloaded, life.loads) == ([life.made], 2)

    run(main)


def test_an_adapter_keeps_its_place_until_it_is_there_though_its_caller_left() -> None:
    begun, go_on, places = threading.Event(), threading.Event(), []

    def put(place: int, source: str, revision: str | None) -> bool:
        places.append((place, source))
        if source == "slow":
            begun.set()
            go_on.wait(20)
        return False

    async def main(life: Life) -> None:
        life.go_on.set()
        life.made = replace(life.made, adapters=AdapterShelf("it", 2, put, lambda place: places.append((place, "empty"))))
        await life.keeper.warm()
        loading = asyncio.create_task(life.keeper.load_adapter("one", "slow", None))
        await asyncio.to_thread(begun.wait)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        await life.keeper.load_adapter("two", "quick", None)
        # The instance is in use while its adapter comes.
        cooling = asyncio.create_task(life.keeper.cool())
        await asyncio.sleep(0.01)
        assert life.unloaded == []
        go_on.set()
        await cooling
        assert life.made.adapters.names == ("one", "two")
        assert places == [(1, "slow"), (2, "quick")]

    run(main)


def test_an_adapter_goes_though_its_caller_left() -> None:
    async def main(life: Life) -> None:
        life.go_on.set()
        await life.keeper.warm()
        await life.keeper.load_adapter("one", "text", None)
        with life.made.adapters.hold("one"):
            leaving = asyncio.create_task(life.keeper.unload_adapter("one"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        # Both places can be taken again.
        await life.keeper.load_adapter("two", "text", None)
        await life.keeper.load_adapter("three", "text", None)
        assert life.made.adapters.names == ("two", "three")

    run(main)


def test_two_who_wait_for_one_another_are_both_done() -> None:
    """One instance is unloaded while it is in use and wanted again; another one wants its room meanwhile."""

    async def main(life: Life) -> None:
        life.go_on.set()
        await life.keeper.warm()

        async def make_room(name: str) -> Instance:
            await life.keeper.cool()
            return life.made

        upkeep = Upkeep(make_room, life._unload, life._observe, life.refused.append, life.turn)
        other = Keeper(replace(life.made.description, name="other"), True, 10, upkeep)
        async with life.keeper.lease():
            cooling = asyncio.create_task(life.keeper.cool())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            wanted = asyncio.create_task(life.asked())
            await asyncio.sleep(0)
            roomy = asyncio.create_task(other.warm())
            await asyncio.sleep(0)
        await asyncio.gather(cooling, wanted, roomy)

    run(main)


def test_who_finds_no_place_among_those_who_wait_is_counted() -> None:
    async def main(life: Life) -> None:
        asking = asyncio.create_task(life.asked())
        await life.entered.wait()
        with pytest.raises(Overloaded):
            await life.asked()
        assert life.refused == ["queue_full"]
        life.go_on.set()
        await asking

    run(main, queue=1)

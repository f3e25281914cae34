"""Adapters come, are used, and go: by name, within bounds, and never under somebody's request."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.errors import AdapterNotFound, InvalidRequest, OperatorError
from service.instances.shelf import NONE, AdapterShelf
from tests.fakes import shelf


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


def test_without_a_name_there_is_no_adapter() -> None:
    with shelf().hold(None) as held:
        assert held == NONE


def test_each_has_a_place_and_who_sees_a_view_of_its_own() -> None:
    async def work() -> None:
        made = shelf(3)
        for name, source in (("one", "text"), ("two", "eyes"), ("three", "more eyes")):
            await made.load(name, source)
        assert made.names == ("one", "two", "three")
        held = []
        for name in made.names:
            with made.hold(name) as each:
                held.append((each.place, each.view))
        assert held == [(1, 0), (2, 1), (3, 2)]
        await made.unload("two")
        await made.load("four", "eyes")
        with made.hold("four") as each:
            # The place is used again; what was seen with the adapter before is not.
            assert (each.place, each.view) == (2, 3)

    run(work)


def test_an_unknown_name_is_told_what_is_there() -> None:
    async def work() -> None:
        made = shelf(1)
        with pytest.raises(AdapterNotFound, match="it has none"), made.hold("x"):
            pass
        await made.load("one", "text")
        with pytest.raises(AdapterNotFound, match="there is one"), made.hold("x"):
            pass
        with pytest.raises(AdapterNotFound):
            await made.unload("x")

    run(work)


def test_threat_46_bounds_and_names_are_kept() -> None:
    async def work() -> None:
        made = shelf(1)
        await made.load("one", "text")
        with pytest.raises(InvalidRequest, match="already"):
            await made.load("one", "text")
        with pytest.raises(InvalidRequest, match="1 adapters at most"):
            await made.load("two", "text")
        await made.unload("one")
        with pytest.raises(InvalidRequest, match="another base"):
            await made.load("two", "bad")
        await made.load("two", "text")
        assert made.names == ("two",)

    run(work)


def test_one_that_is_used_goes_when_its_requests_have_ended() -> None:
    async def work() -> None:
        cleared: list[int] = []
        made = AdapterShelf("fake", 1, lambda *_: False, cleared.append)
        await made.load("one", "text")
        with made.hold("one"):
            leaving = asyncio.create_task(made.unload("one"))
            await asyncio.sleep(0)
            assert made.names == ()
            with pytest.raises(AdapterNotFound), made.hold("one"):
                pass
            assert cleared == []
        await leaving
        assert cleared == [1]

    run(work)


def test_one_that_is_being_read_cannot_be_asked_for_yet() -> None:
    async def work() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def put(place: int, source: str, revision: str | None) -> bool:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
            raise OperatorError("no.")

        made = AdapterShelf("fake", 2, put, lambda place: None)
        coming = asyncio.create_task(made.load("one", "text"))
        await begun.wait()
        with pytest.raises(AdapterNotFound), made.hold("one"):
            pass
        go_on.set()
        with pytest.raises(InvalidRequest):
            await coming
        assert made.names == ()

    run(work)

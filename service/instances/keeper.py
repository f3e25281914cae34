"""One configured instance: loaded when it is wanted, given back when it is not."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from service.errors import ModelNotReady, OperatorError, Overloaded
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.instances.shelf import AdapterShelf

logger = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 1.0, 60.0
"""Seconds after a load that failed in which no other is tried; twice as long after each further one."""


class State(StrEnum):
    """Not loaded; being loaded or warmed up; answering; not loaded because that failed."""

    COLD = "cold"
    LOADING = "loading"
    WARM = "warm"
    FAILED = "failed"


Observe = Callable[[str, State], None]
"""Is told the name and the state of an instance whenever the latter changes, on the event loop."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the keepers of one process share.

    ``load`` makes a warm instance of a name, and raises OperatorError where it cannot; ``unload`` gives back what one takes. ``refuse`` is
    told why a request was refused at the door. ``turn``: one load at a time, because two at once would both count the same room as free;
    ``load`` is called with it held, and may cool other keepers.
    """

    load: Callable[[str], Awaitable[Instance]]
    unload: Callable[[Instance], Awaitable[None]]
    observe: Observe
    refuse: Callable[[str], None]
    turn: asyncio.Lock


class _Loaded:
    """A warm instance and how many use it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.unused = asyncio.Event()
        self.unused.set()
        self._users = 0

    def enter(self) -> None:
        self._users += 1
        self.unused.clear()

    def leave(self) -> None:
        self._users -= 1
        if not self._users:
            self.unused.set()


class Keeper:
    """Keeps one instance. All methods belong to one event loop.

    ``plan`` describes it before it is loaded. An instance that is not ``on_demand`` is loaded by its operator, never by a request. At most
    ``queue`` requests wait for a load. What has begun to change goes on to its end, whoever asked for it and left.
    """

    def __init__(
        self, plan: ModelDescription, on_demand: bool, queue: int, upkeep: Upkeep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan = plan
        self._on_demand = on_demand
        self._queue = queue
        self._upkeep = upkeep
        self._clock = clock
        self._state = State.COLD
        self._loaded: _Loaded | None = None
        self._loading: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._waiting: list[asyncio.Future[_Loaded]] = []
        self._failures = 0
        self._not_before = 0.0
        self.last_used = 0.0

    @property
    def name(self) -> str:
        """What requests and metrics carry."""
        return self._plan.name

    @property
    def resolution(self) -> int:
        """The side of its pictures, in pixels."""
        return self._plan.resolution

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    @property
    def is_waited_for(self) -> bool:
        """Whether requests wait until it is loaded."""
        return bool(self._waiting)

    @property
    def description(self) -> ModelDescription:
        """What callers may know of it."""
        if self._loaded is None:
            return replace(self._plan, state=self._state.value)
        instance = self._loaded.instance
        return replace(instance.description, state=self._state.value, adapters=instance.adapters.names)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Instance]:
        """The warm instance, which stays so until the block is left. Waits for one that is being loaded.

        Errors: ModelNotReady: it is not loaded and not to be loaded by a request, or that failed a short while ago; Overloaded.
        """
        loaded = self._loaded
        if loaded is None:
            loaded = await self._wanted()
        else:
            loaded.enter()
        try:
            yield loaded.instance
        finally:
            loaded.leave()
            self.last_used = self._clock()

    async def warm(self) -> None:
        """Load it where it is not; several who ask wait for the same load. Errors: ModelNotReady."""
        if self._loaded is None:
            await asyncio.shield(self._begin())

    async def load_adapter(self, name: str, source: str, revision: str | None) -> None:
        """Errors: ModelNotReady where the instance is not loaded; those of ``AdapterShelf.load``."""
        await _to_its_end(self._with_adapters(lambda shelf: shelf.load(name, source, revision)))

    async def unload_adapter(self, name: str) -> None:
        """Errors: ModelNotReady where the instance is not loaded; those of ``AdapterShelf.unload``."""
        await _to_its_end(self._with_adapters(lambda shelf: shelf.unload(name)))

    async def _with_adapters(self, change: Callable[[AdapterShelf], Awaitable[None]]) -> None:
        loaded = self._loaded
        if loaded is None:
            raise ModelNotReady(f"{self.name} is not loaded: its adapters come and go while it is.")
        loaded.enter()
        try:
            await change(loaded.instance.adapters)
        finally:
            loaded.leave()

    async def cool(self) -> None:
        """Let requests that use it end, then give it back. New ones wait for another load, or find it cold."""
        await _to_its_end(self._cool())

    async def _cool(self) -> None:
        async with self._changing:
            loaded, self._loaded = self._loaded, None
            if loaded is None:
                return
            self._enter(State.COLD)
            await loaded.unused.wait()
            await self._upkeep.unload(loaded.instance)
            logger.info("%s is unloaded", self.name)

    async def close(self) -> None:
        """Begin no load any more, nor wait for one."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    async def _wanted(self) -> _Loaded:
        if self._state is State.COLD and not self._on_demand:
            raise ModelNotReady(f"{self.name} is not loaded: its operator loads it with POST /v1/models/{self.name}/load.")
        if self._state is State.FAILED and self._clock() < self._not_before:
            wait = self._not_before - self._clock()
            raise ModelNotReady(f"{self.name} could not be loaded, the log says why; the next attempt is made in {wait:.0f} s.", wait)
        if len(self._waiting) >= self._queue:
            self._upkeep.refuse("queue_full")
            raise Overloaded(f"{len(self._waiting)} requests wait for {self.name} to be loaded. Try again later.", retry_after=1.0)
        place: asyncio.Future[_Loaded] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._begin()
        try:
            return await place
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            elif not place.cancelled() and place.exception() is None:
                # It was counted as a user already.
                place.result().leave()
            raise

    def _begin(self) -> asyncio.Task[None]:
        if self._loading is None:
            self._loading = asyncio.create_task(self._load_once())
            self._loading.add_done_callback(_look_at)
        return self._loading

    async def _load_once(self) -> None:
        self._enter(State.LOADING)
        try:
            # The turn first: who has it may wait for this keeper, to be given its room.
            async with self._upkeep.turn, self._changing:
                await self._load_now()
        except ModelNotReady as error:
            for place in self._waiting:
                if not place.done():
                    place.set_exception(error)
            raise
        finally:
            self._loading = None
            self._waiting.clear()

    async def _load_now(self) -> None:
        try:
            loaded = _Loaded(await self._upkeep.load(self.name))
        except Exception as error:
            self._failures += 1
            back_off = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2 ** (self._failures - 1))
            self._not_before = self._clock() + back_off
            self._enter(State.FAILED)
            if isinstance(error, OperatorError):
                logger.error("%s cannot be loaded: %s", self.name, error)
            else:
                logger.exception("%s cannot be loaded", self.name)
            raise ModelNotReady(f"{self.name} could not be loaded; the log says why.", back_off) from None
        self._failures = 0
        self._loaded = loaded
        self.last_used = self._clock()
        # Who waited uses it from now on: it cannot be given back before they had it.
        for place in self._waiting:
            if not place.done():
                loaded.enter()
                place.set_result(loaded)
        self._enter(State.WARM)

    def _enter(self, state: State) -> None:
        self._state = state
        self._upkeep.observe(self.name, state)


async def _to_its_end(work: Coroutine[object, object, None]) -> None:
    """Wait for it; who gives up only stops waiting."""
    task = asyncio.create_task(work)
    task.add_done_callback(_look_at)
    await asyncio.shield(task)


def _look_at(task: asyncio.Task[None]) -> None:
    """Nobody may be left who waits for its error."""
    if not task.cancelled():
        task.exception()

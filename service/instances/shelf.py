"""The adapters of one instance: which are there, who uses them, and how one comes and goes."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from service.errors import AdapterNotFound, FieldProblem, InvalidRequest, OperatorError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """``place`` counts from 1; 0 is no adapter. ``view``: a number of this adapter's own where it changes how pictures are seen, else 0."""

    place: int = 0
    view: int = 0


NONE = Held()


@dataclass(slots=True, eq=False)
class _Adapter:
    """One that is there, or just coming."""

    held: Held
    users: int = 0
    ready: bool = False
    unused: asyncio.Event = field(default_factory=asyncio.Event)


class AdapterShelf:
    """Belongs to one event loop.

    ``put`` reads an adapter of (place, source, revision) and tells whether it changes how pictures are seen; ``clear`` empties a place.
    Both block, and raise OperatorError.
    """

    def __init__(self, instance: str, places: int, put: Callable[[int, str, str | None], bool], clear: Callable[[int], None]) -> None:
        self._instance = instance
        self._places = places
        self._put = put
        self._clear = clear
        self._adapters: dict[str, _Adapter] = {}
        self._numbers = count(1)
        self._taken: set[int] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Those that requests can ask for."""
        return tuple(name for name, adapter in self._adapters.items() if adapter.ready)

    @property
    def used(self) -> tuple[str, ...]:
        """Those that requests use at this moment."""
        return tuple(name for name, adapter in self._adapters.items() if adapter.users)

    @property
    def places(self) -> int:
        """How many can be there."""
        return self._places

    @contextmanager
    def hold(self, name: str | None) -> Iterator[Held]:
        """An adapter, which stays until the block is left. Errors: AdapterNotFound, which lists what is there."""
        if name is None:
            yield NONE
            return
        adapter = self._adapters.get(name)
        if adapter is None or not adapter.ready:
            there = f"there is {', '.join(self.names)}" if self.names else "it has none"
            raise AdapterNotFound(f"{self._instance} has no adapter of this name; {there}.")
        adapter.users += 1
        adapter.unused.clear()
        try:
            yield adapter.held
        finally:
            adapter.users -= 1
            if not adapter.users:
                adapter.unused.set()

    async def load(self, name: str, source: str, revision: str | None = None) -> None:
        """Read an adapter and let requests ask for it. Errors: InvalidRequest: the name or all places are taken, or it does not fit."""
        if name in self._adapters:
            raise _refused("adapter", f"{self._instance} has an adapter {name} already: unload it first")
        free = next((place for place in range(1, self._places + 1) if place not in self._taken), None)
        if free is None:
            raise _refused("adapter", f"{self._instance} holds {self._places} adapters at most (max_adapters), and has {len(self._taken)}")
        adapter = self._adapters[name] = _Adapter(Held(free))
        adapter.unused.set()
        self._taken.add(free)
        try:
            sees = await asyncio.to_thread(self._put, free, source, revision)
        except BaseException as error:
            del self._adapters[name]
            self._taken.discard(free)
            if isinstance(error, OperatorError):
                raise _refused("source", str(error)) from None
            raise
        adapter.held = Held(free, next(self._numbers) if sees else 0)
        adapter.ready = True
        logger.info("%s has the adapter %s (%s)", self._instance, name, source)

    async def unload(self, name: str) -> None:
        """Let requests that use it end, then give its place back. Errors: AdapterNotFound."""
        with self.hold(name):
            pass
        adapter = self._adapters.pop(name)
        await adapter.unused.wait()
        await asyncio.to_thread(self._clear, adapter.held.place)
        self._taken.discard(adapter.held.place)
        logger.info("%s has the adapter %s no more", self._instance, name)


def _refused(field: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{problem.rstrip('.')}.", (FieldProblem(field, problem),))

"""Pictures that were encoded already, so that the next question about one skips decoding, resizing and the vision tower.

Each instance has its own: what it keeps was made by its preprocessing and its tower, and goes when the instance goes. A picture is known
by the SHA-256 of its file's bytes, never by its pixels (two pictures may have the same pixels in another shape) or by a name that a caller
gives it. An answer is the same with and without the cache; its time is not, so where one caller must not learn what another one asked
about, it can be turned off, or the caller can be made a part of the variant. Turned off, a picture is still shared by those who hold the
very same object: the parts of one caller's request.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from service.engine.generation import Picture

_Key = tuple[bytes | int, Hashable]
"""The digest of a file, or where nothing is kept the identity of its bytes; and the variant."""

_HASHED_INLINE = 1 << 20
"""Bytes that take about a millisecond to hash; more are hashed in a thread."""


class CacheObserver(Protocol):
    """Is told of every look-up, and of the bytes held whenever they change. Called on the event loop."""

    def vision_cache_asked(self, instance: str, hit: bool) -> None: ...

    def vision_cache_changed(self, instance: str, held_bytes: int) -> None: ...


@dataclass(slots=True)
class _Flight:
    """A picture in use whose features may not be there yet. The last to leave it decides whether it is kept.

    ``image`` is held so that no other object can have its identity meanwhile.
    """

    image: bytes
    making: asyncio.Task[Picture]
    passengers: int = 0


class VisionCache:
    """The least recently used pictures are given up first. Belongs to one event loop.

    ``limit`` is in bytes, 0 turns it off; each picture's features take ``picture_bytes``. Pixels are not kept, only shared in flight.
    """

    def __init__(self, instance: str, limit: int, picture_bytes: int, observer: CacheObserver) -> None:
        self._instance = instance
        self._most = limit // picture_bytes
        self._picture_bytes = picture_bytes
        self._observer = observer
        self._kept: OrderedDict[_Key, Picture] = OrderedDict()
        self._flights: dict[_Key, _Flight] = {}

    @asynccontextmanager
    async def hold(self, image: bytes, make: Callable[[], Awaitable[Picture]], variant: Hashable = None) -> AsyncIterator[Picture]:
        """The picture of a file's bytes, made by ``make`` unless somebody has, or is just about to. Errors: those of ``make``.

        ``variant`` tells apart what is made of the same bytes in other ways.
        """
        key = (await _digest(image) if self._most else id(image), variant)
        kept = self._kept.get(key)
        flight = self._flights.get(key)
        if self._most:
            self._observer.vision_cache_asked(self._instance, hit=kept is not None or flight is not None)
        if kept is not None:
            self._kept.move_to_end(key)
            yield kept
            return
        if flight is None:
            flight = self._flights[key] = _Flight(image, asyncio.ensure_future(_made(make)))
        flight.passengers += 1
        try:
            # Shielded: who is cancelled must not take the picture from the others.
            yield await asyncio.shield(flight.making)
        finally:
            flight.passengers -= 1
            if flight.passengers == 0:
                self._land(key, flight)

    def _land(self, key: _Key, flight: _Flight) -> None:
        del self._flights[key]
        if not flight.making.done():
            flight.making.cancel()
        elif flight.making.cancelled() or flight.making.exception() is not None:
            return
        elif self._most and flight.making.result().answered:
            self._kept[key] = flight.making.result()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            self._observer.vision_cache_changed(self._instance, len(self._kept) * self._picture_bytes)


async def _digest(image: bytes) -> bytes:
    if len(image) <= _HASHED_INLINE:
        return hashlib.sha256(image).digest()
    return await asyncio.to_thread(lambda: hashlib.sha256(image).digest())


async def _made(make: Callable[[], Awaitable[Picture]]) -> Picture:
    return await make()

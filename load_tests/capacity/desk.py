"""Admission and the vision cache of an instance, in virtual time: the rules of ``Engine`` and ``VisionCache``, which need an event loop."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from service.engine.engine import EngineLimits
from service.engine.generation import Picture
from service.engine.pace import Pace


class Status(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    QUEUE_FULL = "refused: the queue is full"
    TOO_LATE = "refused: it could not be in time"
    LATE = "its time ran out"


@dataclass(slots=True)
class Shown:
    """A picture in use or kept: each worker has its own copy of the features. ``waiting`` go on when it is decoded."""

    made: bool = False
    answered: bool = False
    passengers: int = 0
    waiting: list[Callable[[], None]] = field(default_factory=list)
    copies: dict[int, Picture] = field(default_factory=dict)


class Desk:
    """What an ``Engine`` knows of its instance on the event loop: who waits, who runs, how fast it goes; and its vision cache."""

    def __init__(self, kept: int) -> None:
        self.waiting = 0
        self.running = 0
        self.pace = Pace()
        self.asked = 0
        self.hits = 0
        self._most = kept
        self._kept: OrderedDict[int, Shown] = OrderedDict()
        self._flights: dict[int, Shown] = {}
        self._alone = count(-1, -1)

    def refuses(self, now: float, deadline: float, limit: int) -> Status | None:
        """``Engine.reserve``'s rules."""
        if self.waiting >= self.pace.places(limit, EngineLimits().queue_seconds):
            return Status.QUEUE_FULL
        late = now + self.pace.wait(self.waiting) + self.pace.run > deadline
        return Status.TOO_LATE if late and self.waiting + self.running else None

    def hold(self, picture: int) -> tuple[int, Shown]:
        """``VisionCache.hold``'s rules. The key is its own where nothing is kept, because then nothing is shared."""
        self.asked += 1
        key = picture if self._most else next(self._alone)
        if key in self._kept:
            self._kept.move_to_end(key)
            self.hits += 1
            shown = self._kept[key]
        elif key in self._flights:
            self.hits += 1
            shown = self._flights[key]
        else:
            shown = self._flights[key] = Shown()
        shown.passengers += 1
        return key, shown

    def leave(self, key: int, shown: Shown) -> None:
        """The last one to leave a flight decides whether the picture is kept."""
        shown.passengers -= 1
        if shown.passengers or self._flights.get(key) is not shown:
            return
        del self._flights[key]
        if self._most and shown.answered:
            self._kept[key] = shown
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

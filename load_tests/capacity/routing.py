"""Which replica gets a request: what a Service or a gateway does."""

import hashlib
import math
import random
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Protocol


class Target(Protocol):
    """A replica as a gateway sees it: a number for life, and the requests it was sent that are not answered yet."""

    number: int
    in_flight: int


class Router(Protocol):
    """Chooses one of ``ready``, which is not empty. ``key`` stands for the picture."""

    def choose(self, ready: Sequence[Target], key: int) -> int:
        """The chosen one's place in ``ready``."""
        ...


class RoundRobin:
    """In turn."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, ready: Sequence[Target], key: int) -> int:
        self._turn += 1
        return self._turn % len(ready)


class AtRandom:
    """What a Service does with each new connection."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)

    def choose(self, ready: Sequence[Target], key: int) -> int:
        return self._chance.randrange(len(ready))


class LeastBusy:
    """The one with the fewest requests in flight; of equals any."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)

    def choose(self, ready: Sequence[Target], key: int) -> int:
        least = min(each.in_flight for each in ready)
        return self._chance.choice([place for place, each in enumerate(ready) if each.in_flight == least])


class ByPicture:
    """Consistent hashing with bounded load.

    Each replica stands at ``points`` places of a ring; a picture belongs to the next one. Who has more than ``bound`` times the mean of the
    requests in flight passes it on to the following one.
    """

    def __init__(self, bound: float = 1.25, points: int = 100) -> None:
        self._bound = bound
        self._points = points
        self._ring: list[tuple[int, int]] = []
        self._members: set[int] = set()

    def choose(self, ready: Sequence[Target], key: int) -> int:
        places = {each.number: place for place, each in enumerate(ready)}
        self._follow(set(places))
        most = math.ceil(self._bound * (1 + sum(each.in_flight for each in ready)) / len(ready))
        start = bisect_right(self._ring, (_hash(f"picture {key}"), -1))
        for step in range(len(self._ring)):
            _, number = self._ring[(start + step) % len(self._ring)]
            if ready[places[number]].in_flight < most:
                return places[number]
        raise RuntimeError("no replica is below the bound, which is above the mean")

    def _follow(self, members: set[int]) -> None:
        """Let who has come join the ring, and take out who is gone."""
        if members == self._members:
            return
        for number in self._members - members:
            self._ring = [point for point in self._ring if point[1] != number]
        for number in members - self._members:
            for point in range(self._points):
                insort(self._ring, (_hash(f"replica {number} {point}"), number))
        self._members = members


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())

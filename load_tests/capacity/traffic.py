"""Who asks what, when, and about which picture. Open loop: arrivals do not wait for answers."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: its ``share`` of all, and the lengths that were seen, each as likely as another.

    ``written`` counts the end token, which is a step of its own.
    """

    name: str
    share: float
    instance: str
    prompts: Sequence[int]
    written: Sequence[int]


class Arrival(NamedTuple):
    """One request. ``picture`` is a number: the same one, the same picture."""

    time: float
    kind: str
    instance: str
    picture: int
    prompt: int
    written: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Requests a second at a time, and at the most."""

    at: Callable[[float], float]
    most: float


def steady(rate: float) -> Profile:
    """The same rate always."""
    return Profile(lambda now: rate, rate)


def ramp(low: float, high: float, begins: float, lasts: float) -> Profile:
    """From one rate to another in a straight line."""
    return Profile(lambda now: low + (high - low) * min(1.0, max(0.0, (now - begins) / lasts)), max(low, high))


def daily(mean: float, swing: float, day: float = 86_400.0) -> Profile:
    """A wave around ``mean``, which at noon is ``1 + swing`` times that."""
    return Profile(lambda now: mean * (1 - swing * math.cos(2 * math.pi * now / day)), mean * (1 + swing))


def bursts(rate: float, factor: float, every: float, lasts: float) -> Profile:
    """``factor`` times the rate for ``lasts`` seconds of every so many."""
    return Profile(lambda now: rate * factor if now % every < lasts else rate, rate * factor)


class Pictures(Protocol):
    """Chooses the picture of each request."""

    def choose(self, now: float, chance: random.Random) -> int: ...


class Fresh:
    """Every request has a picture that nobody has shown before."""

    def __init__(self) -> None:
        self._shown = 0

    def choose(self, now: float, chance: random.Random) -> int:
        self._shown += 1
        return self._shown


class Popular:
    """A ``share`` of the requests is about one of ``catalogue`` pictures, the n-th of them 1/n as often as the first; the rest is fresh."""

    def __init__(self, catalogue: int, share: float) -> None:
        self._sums = list(accumulate(1 / rank for rank in range(1, catalogue + 1)))
        self._share = share
        self._fresh = Fresh()

    def choose(self, now: float, chance: random.Random) -> int:
        if chance.random() >= self._share:
            return -self._fresh.choose(now, chance)
        return bisect_left(self._sums, chance.random() * self._sums[-1])


class Sittings:
    """``questions`` about each picture on average, which come ``pause`` seconds apart on average."""

    def __init__(self, questions: float, pause: float) -> None:
        self._anew = 1 / questions
        self._pause = pause
        self._shown: list[float] = []

    def choose(self, now: float, chance: random.Random) -> int:
        if not self._shown or chance.random() < self._anew:
            self._shown.append(now)
            return len(self._shown) - 1
        ago = now - chance.expovariate(1 / self._pause)
        return min(bisect_left(self._shown, ago), len(self._shown) - 1)


def arrivals(profile: Profile, kinds: Sequence[Kind], pictures: Pictures, seconds: float, seed: int) -> Iterator[Arrival]:
    """A Poisson process of the profile's rate, until ``seconds``. The same seed gives the same requests."""
    chance = random.Random(seed)
    weights = list(accumulate(kind.share for kind in kinds))
    now = 0.0
    while (now := now + chance.expovariate(profile.most)) < seconds:
        if chance.random() * profile.most >= profile.at(now):
            continue
        kind = kinds[bisect_left(weights, chance.random() * weights[-1])]
        yield Arrival(now, kind.name, kind.instance, pictures.choose(now, chance), chance.choice(kind.prompts), chance.choice(kind.written))

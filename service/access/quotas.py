"""How much a key may ask for: requests and pictures a minute, and requests at once.

Synchronous and without a clock of its own: ``now`` is in seconds, and never goes back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from service.access.keys import Key, Limits
from service.errors import PermissionDenied, RateLimited

NEARLY = 1e-6
"""Tokens that may lack: a caller who comes back exactly when told is not sent away for a rounding."""

BUSY_WAIT = 1.0
"""Seconds after which to come back where all that a key may run at once is running: nobody knows when one of them ends."""


class Bucket:
    """Tokens that come evenly, ``per_minute``; a minute's worth can be saved."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def wait(self, count: int, now: float) -> float:
        """Seconds until so many are there, of at most ``per_minute``."""
        self._level = min(self.per_minute, self._level + max(0.0, now - self._at) * self.per_minute / 60)
        self._at = now
        lacking = count - self._level
        return lacking * 60 / self.per_minute if lacking > NEARLY else 0.0

    def take(self, count: int) -> None:
        """Take what ``wait`` found there."""
        self._level -= count

    def resize(self, per_minute: int) -> None:
        """What was saved keeps its part of a minute."""
        self._level *= per_minute / self.per_minute
        self.per_minute = per_minute


class Quota:
    """What one key has left."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._requests: Bucket | None = None
        self._images: Bucket | None = None
        self._most = limits.concurrent
        self.running = 0
        self.set(limits, now)

    def set(self, limits: Limits, now: float) -> None:
        """Another file may say other limits; what was used stays used."""
        self._requests = _resized(self._requests, limits.requests_per_minute, now)
        self._images = _resized(self._images, limits.images_per_minute, now)
        self._most = limits.concurrent

    def enter(self, now: float, images: int = 0) -> None:
        """Begin a request with so many pictures; it ends with ``leave``. Errors: RateLimited, PermissionDenied; nothing is taken then."""
        if self._most is not None and self.running >= self._most:
            raise RateLimited(f"This key may have {self._most} requests at once, and as many are running: wait for one of them.", BUSY_WAIT)
        self.follow(images, now)
        self.running += 1

    def follow(self, images: int, now: float) -> None:
        """The same for a request that follows another one in its place. Errors: RateLimited, PermissionDenied."""
        self._check(images, now)
        if self._requests:
            if wait := self._requests.wait(1, now):
                raise RateLimited(f"This key may send {self._requests.per_minute} requests a minute: wait {_told(wait)}.", wait)
            self._requests.take(1)
        if self._images:
            self._images.take(images)

    def show(self, images: int, now: float) -> None:
        """Take the pictures of a request that has begun. Errors: RateLimited, PermissionDenied."""
        self._check(images, now)
        if self._images:
            self._images.take(images)

    def leave(self) -> None:
        """A request has ended."""
        self.running -= 1

    def _check(self, images: int, now: float) -> None:
        if not self._images:
            return
        most = self._images.per_minute
        if images > most:
            raise PermissionDenied(f"This key may send {most} pictures a minute, and the request has {images}: it can never be answered.")
        if wait := self._images.wait(images, now):
            raise RateLimited(f"This key may send {most} pictures a minute: wait {_told(wait)}.", wait)


class Quotas:
    """Those of all keys, by name. As many are kept as there are keys."""

    def __init__(self) -> None:
        self._of: dict[str, Quota] = {}
        self._limits: dict[str, Limits] = {}

    def of(self, key: Key, now: float) -> Quota:
        """What the key has left."""
        quota = self._of.get(key.name)
        if quota is None:
            quota = self._of[key.name] = Quota(key.limits, now)
        elif self._limits[key.name] != key.limits:
            quota.set(key.limits, now)
        self._limits[key.name] = key.limits
        return quota

    def keep(self, names: set[str]) -> None:
        """Forget all others."""
        for name in self._of.keys() - names:
            del self._of[name], self._limits[name]

    def __len__(self) -> int:
        return len(self._of)


class Admission:
    """One visit of a caller, to be used as a context. The first request in it was counted at the door, where the visit took one place."""

    def __init__(self, quota: Quota | None, clock: Callable[[], float]) -> None:
        """``quota``: None where nothing limits the caller. Errors: RateLimited."""
        self._quota = quota
        self._clock = clock
        self._counted = True
        self._in_place = False
        if quota:
            quota.enter(clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._quota:
            self._quota.leave()

    @contextmanager
    def request(self, images: int) -> Iterator[None]:
        """Around one request of the visit, with so many pictures. Errors: RateLimited, PermissionDenied."""
        if self._quota is None:
            yield
        elif not self._in_place:
            # The visit's own: requests of a long stream may follow one another in it.
            take = self._quota.show if self._counted else self._quota.follow
            self._in_place, self._counted = True, False
            try:
                take(images, self._clock())
                yield
            finally:
                self._in_place = False
        else:
            self._quota.enter(self._clock(), images)
            try:
                yield
            finally:
                self._quota.leave()


def _resized(bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    if per_minute is None or bucket is None:
        return None if per_minute is None else Bucket(per_minute, now)
    bucket.resize(per_minute)
    return bucket


def _told(seconds: float) -> str:
    return f"{seconds:.1f} s"

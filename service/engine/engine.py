"""The engine of one instance, as the event loop sees it: reserve a place, run, or leave."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from service.engine.device_loop import DeviceLoop, Lane, Report
from service.engine.generation import Generated, Generation
from service.engine.request import Request, TokenListener
from service.engine.runner import ModelRunner
from service.engine.scheduler import Scheduler
from service.errors import DeadlineExceeded, Overloaded, PaliServeError


class QueueObserver(Protocol):
    """Is told how many requests of an instance wait and run, whenever that changes. Called on the event loop."""

    def queue_changed(self, instance: str, waiting: int, running: int) -> None: ...


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """``queue`` requests may wait (those still being preprocessed included); a prefill step takes at most ``prefill_tokens`` tokens."""

    queue: int = 256
    prefill_tokens: int = 2048


class Engine:
    """Takes generations for one instance. All methods belong to one event loop; the work is done on the device thread."""

    def __init__(
        self,
        name: str,
        runner: ModelRunner,
        device: DeviceLoop,
        limits: EngineLimits,
        observer: QueueObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._device = device
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._waiting = 0
        self._running = 0
        self._pace = Pace()
        self._futures: dict[Request, asyncio.Future[Generated]] = {}
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._scheduler = Scheduler(runner.slots, runner.image_tokens, runner.end_tokens, limits.prefill_tokens)
        device.add_lane(Lane(self._scheduler, runner, self._notify))

    @property
    def waiting(self) -> int:
        """Requests that hold a place and do not run yet."""
        return self._waiting

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return self._running

    @contextmanager
    def reserve(self, deadline: float) -> Iterator["Place"]:
        """A place in the queue until the block is left.

        Errors: Overloaded (queue full, or the deadline would pass while waiting), DeadlineExceeded (it has passed already).
        """
        now = self._clock()
        if now >= deadline:
            raise DeadlineExceeded("The request's time ran out before it could be queued; allow more with timeout_ms.")
        wait = self._pace.wait(self._waiting)
        if self._waiting >= self._limits.queue:
            raise Overloaded(f"The queue of {self._name} is full: {self._waiting} requests are waiting. Try again later.", retry_after=wait)
        if now + wait > deadline:
            raise Overloaded(
                f"The request would wait about {wait:.1f} s for {self._name}, longer than its timeout. Try again later or allow more time.",
                retry_after=wait,
            )
        self._event_loop = asyncio.get_running_loop()
        place = Place(self)
        self._count(waiting=1)
        try:
            yield place
        finally:
            if not place.used:
                self._count(waiting=-1)

    async def _generate(self, generation: Generation, listener: TokenListener | None) -> Generated:
        request = Request(generation, arrived=self._clock(), listener=listener)
        future: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        self._futures[request] = future
        self._device.post(lambda: self._scheduler.add(request))
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(request)
            raise

    def _cancel(self, request: Request) -> None:
        self._device.post(lambda: setattr(request, "cancelled", True))

    def _notify(self, report: Report) -> None:
        """On the device thread: wake the event loop once for the whole step."""
        if self._event_loop is not None:
            # A loop that was closed under its requests has nobody left to tell.
            with suppress(RuntimeError):
                self._event_loop.call_soon_threadsafe(self._deliver, report)

    def _deliver(self, report: Report) -> None:
        self._count(waiting=-len(report.started), running=len(report.started))
        for request, news in report.chosen:
            self._tell(request, news)
        for request in report.ended:
            if request.started is not None:
                self._pace.ended(self._clock(), self._waiting)
                self._count(running=-1)
            else:
                self._count(waiting=-1)
            future = self._futures.pop(request)
            if future.done():
                continue
            if isinstance(request.outcome, PaliServeError):
                future.set_exception(request.outcome)
            elif request.outcome is None:
                future.cancel()
            else:
                future.set_result(request.outcome)

    def _tell(self, request: Request, news: list[tuple[int, float]]) -> None:
        """Call a listener. What it raises ends its own request, and is its caller's to see."""
        future = self._futures[request]
        try:
            for token, probability in news:
                # A listener may cancel its own request.
                if request.listener is not None and not future.done():
                    request.listener(token, probability)
        except (Exception, asyncio.CancelledError) as error:
            self._cancel(request)
            if not future.done():
                refused = isinstance(error, StopIteration | asyncio.CancelledError)  # by futures, or misread by who awaits them
                future.set_exception(RuntimeError(f"a token listener raised {error!r}") if refused else error)

    def _count(self, waiting: int = 0, running: int = 0) -> None:
        self._waiting += waiting
        self._running += running
        self._observer.queue_changed(self._name, self._waiting, self._running)


class Place:
    """A reserved place in an engine's queue; good for one generation."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.used = False

    async def run(self, generation: Generation, listener: TokenListener | None = None) -> Generated:
        """Wait for the continuation. Cancelling the wait frees the slot before the next step.

        ``listener`` is told every token but the end token as it is chosen, and nothing more once the wait is over.
        Errors: DeadlineExceeded, GenerationFailed; what ``listener`` raises.
        """
        if self.used:
            raise RuntimeError("a place is good for one generation")
        self.used = True
        return await self._engine._generate(generation, listener)


class Pace:
    """How fast the queue moves, measured: the mean time between two requests that end while others wait."""

    SMOOTHING = 0.05

    def __init__(self) -> None:
        self._seconds = 0.0
        self._last: float | None = None

    def ended(self, now: float, waiting: int) -> None:
        """A request ended at ``now``. An interval counts only if the queue was never empty in it."""
        if self._last is not None:
            self._seconds += self.SMOOTHING * (now - self._last - self._seconds)
        self._last = now if waiting else None

    def wait(self, waiting: int) -> float:
        """Seconds that the last of ``waiting`` requests will wait; 0 before anything was measured."""
        return waiting * self._seconds

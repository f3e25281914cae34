"""The engine of one instance, as the event loop sees it: reserve a place, run, or leave."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

from service.engine.device import Device, MakeRunner, Outcome, Report, RunnerFacts, Submission
from service.engine.generation import Generated, Generation
from service.engine.observer import ANSWERED, CANCELLED, FAILED, EngineObserver
from service.engine.pace import Pace
from service.engine.places import Places
from service.errors import DeadlineExceeded, ModelNotReady, Overloaded, PaliServeError

LEAST_ROWS = 3
"""A runner computes one row, two, and more in different ways; of more than two it rounds the number up."""

TokenListener = Callable[[int, float], None]
"""Is told each token of one answer and its probability, in order, as it is chosen. Called on the event loop."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """A prefill step takes at most ``prefill_tokens`` tokens.

    At most ``queue`` requests wait (those still being preprocessed included), and not more than begin in ``queue_seconds``: see ``Pace``.
    """

    queue: int = 256
    queue_seconds: float = 1.5
    prefill_tokens: int = 2048


@dataclass(slots=True)
class _Ticket:
    """A generation on its way."""

    generation: Generation
    future: asyncio.Future[Generated]
    listener: TokenListener | None
    caller: str
    tokens: int
    started: float | None = None


class Engine:
    """Takes generations for one instance. All methods belong to one event loop; the work is done by the device."""

    def __init__(
        self,
        name: str,
        device: Device,
        limits: EngineLimits,
        observer: EngineObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._device = device
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._places = Places()
        self._running = 0
        self._waiting_tokens = 0
        self._slots = 0
        self._image_tokens = 0
        self._pace = Pace()
        self._tickets: dict[int, _Ticket] = {}
        self._numbers = count(1)
        self._event_loop: asyncio.AbstractEventLoop | None = None

    def load(self, make: MakeRunner) -> RunnerFacts:
        """Load the runner on the device. Blocks. Errors: those of ``make``."""
        facts = self._device.load(self._name, make, self._limits.prefill_tokens, self._notify)
        self._slots, self._image_tokens = facts.slots, facts.image_tokens
        return facts

    def filling(self, prompt_tokens: int) -> int:
        """How many requests of so many tokens fill a prefill step in each process, ``LEAST_ROWS`` at least, as slots and queue allow."""
        each = min(self._slots, max(LEAST_ROWS, self._limits.prefill_tokens // prompt_tokens))
        return min(self._limits.queue, self._device.copies * each)

    def unload(self) -> None:
        """Give back what the runner takes. Blocks. No request may hold a place."""
        self._device.unload(self._name)

    @property
    def slots(self) -> int:
        """Requests that can run at once, in all processes; 0 before it is loaded."""
        return self._device.copies * self._slots

    @property
    def waiting(self) -> int:
        """Requests that hold a place and do not run yet."""
        return self._places.waiting

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return self._running

    @property
    def most_waiting(self) -> int:
        """Requests that may wait at the present pace."""
        return self._pace.places(self._limits.queue, self._limits.queue_seconds)

    def wait(self, caller: str) -> float:
        """Seconds that one more of a caller's requests would wait."""
        return self._pace.wait(self._places.ahead(caller))

    @contextmanager
    def reserve(self, deadline: float, caller: str = "") -> Iterator["Place"]:
        """A place in the queue until the block is left, for one who is called ``caller``.

        Errors: ModelNotReady (nobody would work on it), Overloaded (queue full, or the deadline would pass before the answer),
        DeadlineExceeded (it has passed already).
        """
        if not self._device.is_ready():
            raise ModelNotReady(f"What runs {self._name} has failed and is being replaced: try again in a few seconds.")
        now = self._clock()
        if now >= deadline:
            raise DeadlineExceeded("The request's time ran out before it could be queued; allow more with timeout_ms.")
        wait = self.wait(caller)
        if not self._places.has_room(caller, self.most_waiting):
            self._observer.request_refused("queue_full")
            raise Overloaded(f"The queue of {self._name} is full: {self.waiting} requests are waiting. Try again later.", retry_after=wait)
        # Somebody must run, or an estimate that was too long once would never be put right.
        if self.waiting + self._running and now + wait + self._pace.run > deadline:
            self._observer.request_refused("too_late")
            raise Overloaded(
                f"The request would take about {wait + self._pace.run:.1f} s on {self._name}, longer than its timeout. "
                "Try again later or allow more time.",
                retry_after=wait,
            )
        self._event_loop = asyncio.get_running_loop()
        place = Place(self, caller)
        self._places.add(caller)
        self._count()
        self._observer.generation_accepted(self._name)
        end = CANCELLED
        try:
            yield place
        except Exception:
            end = FAILED
            raise
        finally:
            if not place.used:
                self._places.remove(caller)
                self._count()
                self._observer.generation_ended(self._name, end)

    def give_up(self, message: str) -> None:
        """End with ModelNotReady all generations that were submitted, whatever becomes of them. What is told of them later is not heard."""
        for number in list(self._tickets):
            self._device.cancel(self._name, number)
            self._settle(self._tickets.pop(number), ModelNotReady(message), self._clock())

    async def _generate(self, generation: Generation, listener: TokenListener | None, caller: str) -> Generated:
        number = next(self._numbers)
        future: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        tokens = self._image_tokens * len(generation.prompt.pictures) + len(generation.prompt.tokens)
        self._tickets[number] = _Ticket(generation, future, listener, caller, tokens)
        self._count(tokens=tokens)
        self._device.submit(self._name, Submission(number, generation, self._clock(), listener is not None, caller))
        try:
            return await future
        finally:
            if future.cancelled():
                self._device.cancel(self._name, number)

    def _notify(self, report: Report) -> None:
        """On a thread of the device's: wake the event loop once for the whole step."""
        if self._event_loop is not None:
            # A loop that was closed under its requests has nobody left to tell.
            with suppress(RuntimeError):
                self._event_loop.call_soon_threadsafe(self._deliver, report)

    def _deliver(self, report: Report) -> None:
        now = self._clock()
        # Those who were given up are not there any more.
        started = [self._tickets[number] for number in report.started if number in self._tickets]
        for ticket in started:
            self._places.remove(ticket.caller)
            ticket.started = now
        self._count(running=len(started), tokens=-sum(ticket.tokens for ticket in started))
        for number, token, probability in report.chosen:
            self._tell(number, token, probability)
        for number, outcome in report.ended:
            if number in self._tickets:
                self._settle(self._tickets.pop(number), outcome, now)
        for phase, size in report.batches:
            self._observer.batch_ran(self._name, phase, size)

    def _tell(self, number: int, token: int, probability: float) -> None:
        """Call a listener. What it raises ends its own request, and is its caller's to see."""
        ticket = self._tickets.get(number)
        # A listener may have cancelled its own request.
        if ticket is None or ticket.listener is None or ticket.future.done():
            return
        try:
            ticket.listener(token, probability)
        except (Exception, asyncio.CancelledError) as error:
            self._device.cancel(self._name, number)
            if not ticket.future.done():
                refused = isinstance(error, StopIteration | asyncio.CancelledError)  # by futures, or misread by who awaits them
                ticket.future.set_exception(RuntimeError(f"a token listener raised {error!r}") if refused else error)

    def _settle(self, ticket: _Ticket, outcome: Outcome, now: float) -> None:
        if ticket.started is not None:
            self._pace.ended(now, self.waiting)
            self._count(running=-1)
        else:
            self._places.remove(ticket.caller)
            self._count(tokens=-ticket.tokens)
        if isinstance(outcome, Generated):
            for picture in ticket.generation.prompt.pictures:
                picture.answered = True
            self._pace.ran(now - (ticket.started or now))
        self._observer.generation_ended(self._name, _end(ticket.future, outcome))
        if ticket.future.done():
            return
        if isinstance(outcome, PaliServeError):
            ticket.future.set_exception(outcome)
        elif outcome is None:
            ticket.future.cancel()
        else:
            ticket.future.set_result(outcome)

    def _count(self, running: int = 0, tokens: int = 0) -> None:
        self._running += running
        self._waiting_tokens += tokens
        self._observer.queue_changed(self._name, self.waiting, self._running, self._waiting_tokens)


def _end(future: asyncio.Future[Generated], outcome: Outcome) -> str:
    """What became of a generation that a caller may have left before, or whose listener may have raised."""
    if future.done():
        return CANCELLED if future.cancelled() else FAILED
    return ANSWERED if isinstance(outcome, Generated) else CANCELLED if outcome is None else FAILED


class Place:
    """A reserved place in an engine's queue; good for one generation."""

    def __init__(self, engine: Engine, caller: str) -> None:
        self._engine = engine
        self._caller = caller
        self.used = False

    async def run(self, generation: Generation, listener: TokenListener | None = None) -> Generated:
        """Wait for the continuation; ``listener`` hears of its tokens meanwhile. Cancelling the wait frees the slot before the next step.

        Errors: DeadlineExceeded, GenerationFailed, ModelNotReady; what ``listener`` raises.
        """
        if self.used:
            raise RuntimeError("a place is good for one generation")
        self.used = True
        return await self._engine._generate(generation, listener, self._caller)

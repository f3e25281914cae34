"""One benchmark: a look at the server, its capacity where nobody told any rates, and then an open loop at each rate."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.bench.arrivals import poisson
from service.bench.figures import Load, capacity, measured
from service.bench.load_generator import ClosedLoop, OpenLoop, Recorder, send_closed, send_open
from service.bench.plan import PARTS, Plan
from service.bench.questions import Question, endless
from service.bench.target import Target, look
from service.errors import OperatorError

EVERY = 0.25
"""Seconds between two looks at how far it is."""

MANY = 1_000_000

Watch = Callable[[float, str], None]
"""Is told the seconds that are over, and what is being done."""


@dataclass(slots=True)
class Outcome:
    """What was found so far. ``capacity``: answers a second of a closed loop; None: not looked for. ``models``: who answered."""

    models: list[str] = field(default_factory=list)
    capacity: float | None = None
    loads: list[Load] = field(default_factory=list)
    interrupted: bool = False


class Benchmark:
    """Asks ``questions`` in turn."""

    def __init__(self, target: Target, questions: Sequence[Question], plan: Plan, watch: Watch) -> None:
        self._target = target
        self._questions = questions
        self._plan = plan
        self._watch = watch
        self._requests = endless(questions, plan.cached, target.write)
        self._outcome = Outcome()
        self._over = 0.0

    async def run(self) -> Outcome:
        """All of it; who cancels it gets what was found so far. Errors: OperatorError."""
        outcome, plan = self._outcome, self._plan
        try:
            outcome.models = await look(self._target, self._questions, plan.timeout)
            rates = plan.rates or await self._rates()
            for number, rate in enumerate(rates):
                await self._load(rate, plan.seed + number)
        except asyncio.CancelledError:
            outcome.interrupted = True
        finally:
            await self._target.server.close()
        return outcome

    async def _rates(self) -> tuple[float, ...]:
        plan, recorder = self._plan, Recorder()
        loop = ClosedLoop(self._target.server, plan.concurrent, plan.concurrent, MANY, plan.seconds, plan.timeout)
        async with self._watched("capacity", recorder):
            await send_closed(loop, self._requests, recorder)
        found = capacity(recorder.replies(self._target.server), loop.ramp, plan.seconds)
        if not found:
            raise OperatorError(f"too little was answered in {plan.seconds:g} s to tell the capacity: give --rate, or a longer --duration.")
        self._outcome.capacity = found
        return tuple(part * found for part in PARTS)

    async def _load(self, rate: float, seed: int) -> None:
        server, recorder, seconds = self._target.server, Recorder(), self._plan.seconds
        loop = OpenLoop(server, tuple(poisson(rate, seconds, seed)), self._plan.timeout)
        try:
            async with self._watched(f"{rate:.3g}/s", recorder):
                await send_open(loop, self._requests, recorder)
        except asyncio.CancelledError:
            seconds = min(seconds, recorder.seconds)
            raise
        finally:
            # A rate at which nothing was due is told of as well.
            if len(recorder) or not loop.times:
                self._outcome.loads.append(measured(recorder.replies(server), rate, seconds))

    @asynccontextmanager
    async def _watched(self, what: str, recorder: Recorder) -> AsyncIterator[None]:
        async def tell() -> None:
            while True:
                over = self._over + min(recorder.seconds, self._plan.seconds)
                self._watch(over, f"{what}: {recorder.answered} of {len(recorder)} answered")
                await asyncio.sleep(EVERY)

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            self._over += self._plan.seconds

"""A fleet of replicas behind a router, in virtual time."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from load_tests.capacity.autoscaler import Autoscaler, Seen
from load_tests.capacity.desk import Status
from load_tests.capacity.replica import Replica
from load_tests.capacity.routing import Router
from load_tests.capacity.service_times import ReplicaTimes
from load_tests.capacity.traffic import Arrival
from service.bench.figures import percentile

SCRAPE = 1.0
"""Seconds between two looks at the replicas' gauges."""

LOOKS_BACK = 300
"""Of which an autoscaler sees so many."""


class Outcome(NamedTuple):
    """One request's end."""

    arrived: float
    ended: float
    status: Status
    kind: str


class Sample(NamedTuple):
    """The fleet at a time: replicas that are ready, those that are to be there, and the gauges' sums over the ready ones.

    Until then, by all that ever were: answers, seconds that devices worked, pictures that caches were asked for, and those they had.
    """

    time: float
    ready: int
    wanted: int
    waiting: int
    running: int
    answered: int
    stepped: float
    asked: int
    hits: int


@dataclass(slots=True)
class Run:
    """What came of it. ``arrived`` counts all, the outcomes those that have ended."""

    outcomes: list[Outcome] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    arrived: int = 0
    in_flight: int = 0
    seconds: float = 0.0

    def between(self, begin: float, end: float) -> "Run":
        """Those who arrived then; the rest of the figures stay the whole run's."""
        outcomes = [each for each in self.outcomes if begin <= each.arrived < end]
        samples = [each for each in self.samples if begin <= each.time < end]
        return Run(outcomes, samples, len(outcomes), self.in_flight, end - begin)

    def latency(self, share: float) -> float:
        """That of the answered: seconds."""
        return percentile((each.ended - each.arrived for each in self.outcomes if each.status is Status.ANSWERED), share)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return sum(each.status is Status.ANSWERED for each in self.outcomes) / self.seconds

    @property
    def lost(self) -> float:
        """The share that got no answer."""
        return sum(each.status is not Status.ANSWERED for each in self.outcomes) / max(1, len(self.outcomes))

    @property
    def stepped(self) -> float:
        """Seconds that devices worked in a second, from the first sample to the last."""
        first, last = self.samples[0], self.samples[-1]
        return (last.stepped - first.stepped) / max(SCRAPE, last.time - first.time)

    @property
    def hit_share(self) -> float:
        """Of the pictures asked for from the first sample to the last, those that a vision cache had."""
        first, last = self.samples[0], self.samples[-1]
        return (last.hits - first.hits) / max(1, last.asked - first.asked)


class Simulation:
    """``count`` replicas at the beginning, all of them ready; with an autoscaler others come and go.

    Nothing is drawn here: the same arrivals and the same router give the same run.
    """

    def __init__(
        self, times: ReplicaTimes, count: int, router: Router, arrivals: Iterable[Arrival], autoscaler: Autoscaler | None = None,
        timeout: float = 60.0,
    ) -> None:  # fmt: skip
        self.now = 0.0
        self._times = times
        self._router = router
        self._arrivals = iter(arrivals)
        self._autoscaler = autoscaler
        self._timeout = timeout
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._run = Run()
        self._made: list[Replica] = []
        self._ready: list[Replica] = []
        self._wanted = 0
        self._answered = 0
        self._feeding = True
        self._set(count, 0.0)

    def at(self, moment: float, work: Callable[[], None]) -> None:
        """Do it then; of things at one moment the one that was asked for first."""
        self._order += 1
        heapq.heappush(self._events, (moment, self._order, work))

    def run(self, until: float = float("inf")) -> Run:
        """Until the last answer, or until a time."""
        self._next_arrival()
        self._look()
        if self._autoscaler is not None:
            self.at(self._autoscaler.rules.sync, self._scale)
        while self._events and self._events[0][0] <= until:
            self.now, _, work = heapq.heappop(self._events)
            work()
        run = self._run
        run.seconds = self.now
        run.in_flight = sum(each.in_flight for each in self._made)
        return run

    def _next_arrival(self) -> None:
        arrival = next(self._arrivals, None)
        if arrival is None:
            self._feeding = False
        else:
            self.at(arrival.time, lambda: self._arrive(arrival))

    def _arrive(self, arrival: Arrival) -> None:
        self._run.arrived += 1
        self._ready[self._router.choose(self._ready, arrival.picture)].arrive(arrival)
        self._next_arrival()

    def _finished(self, arrival: Arrival, status: Status) -> None:
        self._answered += status is Status.ANSWERED
        self._run.outcomes.append(Outcome(arrival.time, self.now, status, arrival.kind))

    def _look(self) -> None:
        ready: Sequence[Replica] = self._ready
        waiting, running = sum(each.waiting for each in ready), sum(each.running for each in ready)
        desks = [desk for each in self._made for desk in each.desks.values()]
        asked, hits = sum(desk.asked for desk in desks), sum(desk.hits for desk in desks)
        stepped = sum(worker.stepped for each in self._made for worker in each.workers)
        self._run.samples.append(Sample(self.now, len(ready), self._wanted, waiting, running, self._answered, stepped, asked, hits))
        if self._feeding:
            self.at(self.now + SCRAPE, self._look)

    def _scale(self) -> None:
        if self._autoscaler is None or not self._feeding:
            return
        seen = [Seen(each.time, each.waiting, each.running, each.answered) for each in self._run.samples[-LOOKS_BACK:]]
        self._set(self._autoscaler.decide(self.now, seen, self._wanted), self._autoscaler.rules.start_up)
        self.at(self.now + self._autoscaler.rules.sync, self._scale)

    def _set(self, wanted: int, start_up: float) -> None:
        """Replicas that are to go get nothing new, and end what they have; those that are not ready yet go first."""
        while self._wanted > wanted:
            self._wanted -= 1
            if len(self._ready) > self._wanted:
                self._ready.pop()
        while self._wanted < wanted:
            self._wanted += 1
            replica = Replica(len(self._made), self._times, self, self._finished, self._timeout)
            self._made.append(replica)
            if start_up:
                self.at(self.now + start_up, lambda replica=replica: self._join(replica))  # type: ignore[misc]
            else:
                self._ready.append(replica)

    def _join(self, replica: Replica) -> None:
        # Who was given up while it started is not needed any more.
        if len(self._ready) < self._wanted:
            self._ready.append(replica)

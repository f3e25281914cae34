"""How much a replica carries, and how many replicas a demand takes."""

import math
from dataclasses import dataclass
from statistics import mean

from load_tests.capacity.routing import LeastBusy
from load_tests.capacity.service_times import ReplicaTimes
from load_tests.capacity.simulation import Run, Simulation
from load_tests.capacity.traffic import Fresh, Kind, arrivals, steady
from load_tests.capacity.workload import EFFICIENCY, MOST_LOST, TARGET, h100, kinds

WARMING, SECONDS = 6.0, 26.0
"""Measured is from the one to the other; a replica's queue fills in less than two seconds."""

DEMANDS = (100, 1000, 10_000)
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
SIZES = (1, 4, 16)
ZONES = 3
FINE = 0.01
"""How exactly the most load of one replica is looked for."""


@dataclass(frozen=True, slots=True)
class Point:
    """A fleet under steady load. ``load`` is a part of its capacity; latencies in seconds; gauges are means for each replica."""

    replicas: int
    load: float
    p50: float
    p95: float
    lost: float
    waiting: float
    running: float
    device_busy: float

    @property
    def holds(self) -> bool:
        """Whether it keeps what is promised."""
        return self.p95 <= TARGET and self.lost <= MOST_LOST


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fewest replicas that carry a demand in steady state, and with one zone of three lost."""

    side: int
    efficiency: float
    demand: int
    router: str
    replicas: int
    utilisation: float
    p95: float
    with_a_zone_lost: int


def run(times: ReplicaTimes, wanted: list[Kind], replicas: int, rate: float) -> Run:
    """A steady load behind a gateway that knows who is least busy; the measured part of it."""
    # A small fleet needs longer to show how it is when its queue is long.
    seconds = SECONDS if rate > DEMANDS[1] else 3 * SECONDS
    simulation = Simulation(times, replicas, LeastBusy(), arrivals(steady(rate), wanted, Fresh(), seconds, seed=1))
    return simulation.run().between(WARMING, seconds)


def capacity(times: ReplicaTimes, wanted: list[Kind]) -> float:
    """Answers a second of one replica that is asked for far more than it can do."""
    most = 1.0
    while True:
        found = _answered(times, wanted, most)
        if found < 0.8 * most:
            return found
        most *= 2


def _answered(times: ReplicaTimes, wanted: list[Kind], rate: float) -> float:
    simulation = Simulation(times, 1, LeastBusy(), arrivals(steady(rate), wanted, Fresh(), SECONDS, 3))
    ended = [each.ended for each in simulation.run().outcomes if each.status == "answered" and WARMING <= each.ended < SECONDS]
    return len(ended) / (SECONDS - WARMING)


def point(times: ReplicaTimes, wanted: list[Kind], replicas: int, load: float, most: float) -> Point:
    """One point of the curve. ``most``: a replica's capacity."""
    seen = run(times, wanted, replicas, load * most * replicas)
    waiting = mean(each.waiting for each in seen.samples) / replicas
    running = mean(each.running for each in seen.samples) / replicas
    return Point(replicas, load, seen.latency(0.5), seen.latency(0.95), seen.lost, waiting, running, seen.stepped / replicas)


def curve(side: int, size: int, most: float) -> list[Point]:
    """A fleet of one size at all loads; the largest ones at high loads only, where they differ."""
    times, wanted = h100(side), kinds(side)
    return [point(times, wanted, size, load, most) for load in LOADS if size < SIZES[-1] or load >= 0.7]


def fleet(side: int, demand: int, efficiency: float, most: float) -> Fleet:
    """From the number that the capacity ``most`` allows at the least, upwards in growing steps, and back in halves."""
    times, wanted = h100(side, efficiency), kinds(side)
    seen: dict[int, Run] = {}

    def holds(replicas: int) -> bool:
        seen[replicas] = run(times, wanted, replicas, demand)
        return seen[replicas].latency(0.95) <= TARGET and seen[replicas].lost <= MOST_LOST

    too_few, enough, step = math.ceil(demand / most) - 1, math.ceil(demand / most), max(1, round(demand / most / 50))
    while not holds(enough):
        too_few, enough, step = enough, enough + step, 2 * step
    while enough - too_few > 1 + enough // 100:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if holds(middle) else (middle, enough)
    return _fleet(side, efficiency, demand, "least busy", enough, most, seen[enough].latency(0.95))


def fleets_at_random(side: int, most: float) -> list[Fleet]:
    """Behind a Service: each replica gets a part of the arrivals that is as random as the whole, and is as busy as if it were alone."""
    times, wanted = h100(side), kinds(side)
    low, high = 0.5, 1.0
    while high - low > FINE:
        middle = (low + high) / 2
        low, high = (middle, high) if point(times, wanted, 1, middle, most).holds else (low, middle)
    made = []
    for demand in DEMANDS:
        enough = math.ceil(demand / most / low)
        p95 = point(times, wanted, 1, demand / most / enough, most).p95
        made.append(_fleet(side, EFFICIENCY, demand, "at random", enough, most, p95))
    return made


def _fleet(side: int, efficiency: float, demand: int, router: str, enough: int, most: float, p95: float) -> Fleet:
    spare = max(enough + 1, math.ceil(enough * ZONES / (ZONES - 1)))
    return Fleet(side, efficiency, demand, router, enough, demand / most / enough, p95, spare)

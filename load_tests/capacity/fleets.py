"""How much a replica carries, and how many replicas a demand takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

from load_tests.capacity.routing import AtRandom, LeastBusy, Router
from load_tests.capacity.service_times import ReplicaTimes
from load_tests.capacity.simulation import Run, Simulation
from load_tests.capacity.traffic import Fresh, Kind, arrivals, steady
from load_tests.capacity.workload import EFFICIENCY, MOST_LOST, TARGET, h100, kinds

WARMING, SECONDS = 6.0, 26.0
"""Measured is from the one to the other; a replica's queue fills in less than two seconds."""

ROUTERS: dict[str, Callable[[], Router]] = {"least busy": LeastBusy, "at random": AtRandom}
DEMANDS = (100, 1000, 10_000)
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)
SIZES = (1, 4, 16)
ZONES = 3


@dataclass(frozen=True, slots=True)
class Point:
    """A fleet under steady load. ``load`` is a part of its capacity; latencies in seconds; gauges are means for each replica."""

    replicas: int
    router: str
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


def run(times: ReplicaTimes, wanted: list[Kind], replicas: int, rate: float, router: Router, seed: int = 1) -> Run:
    """A steady load; the measured part of it."""
    # A small fleet needs longer to show how it is when its queue is long.
    seconds = SECONDS if rate > 2 * DEMANDS[1] else 3 * SECONDS
    simulation = Simulation(times, replicas, router, arrivals(steady(rate), wanted, Fresh(), seconds, seed))
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


def point(times: ReplicaTimes, wanted: list[Kind], replicas: int, router: str, load: float, most: float) -> Point:
    """One point of the curve. ``most``: a replica's capacity."""
    seen = run(times, wanted, replicas, load * most * replicas, ROUTERS[router]())
    waiting = mean(each.waiting for each in seen.samples) / replicas
    running = mean(each.running for each in seen.samples) / replicas
    return Point(replicas, router, load, seen.latency(0.5), seen.latency(0.95), seen.lost, waiting, running, seen.stepped / replicas)


def curves(side: int) -> tuple[float, list[Point]]:
    """A replica's capacity, and fleets of several sizes at all loads."""
    times, wanted = h100(side), kinds(side)
    most = capacity(times, wanted)
    return most, [
        point(times, wanted, size, router, load, most) for router in ROUTERS for size in SIZES for load in LOADS if size < 16 or load >= 0.5
    ]


def fleet(side: int, demand: int, router: str, efficiency: float = EFFICIENCY) -> Fleet:
    """Counts up from the number that the capacity allows at the least."""
    times, wanted = h100(side, efficiency), kinds(side)
    most = capacity(times, wanted)
    replicas = max(1, math.ceil(demand / most))
    step = max(1, round(replicas * 0.02))
    while True:
        seen = run(times, wanted, replicas, demand, ROUTERS[router]())
        if seen.latency(0.95) <= TARGET and seen.lost <= MOST_LOST:
            break
        replicas += step
    spare = max(replicas + 1, math.ceil(replicas * ZONES / (ZONES - 1)))
    return Fleet(side, efficiency, demand, router, replicas, demand / most / replicas, seen.latency(0.95), spare)

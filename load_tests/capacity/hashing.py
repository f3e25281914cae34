"""What it brings to send each picture to the same replica: hits of the vision caches, and throughput."""

from collections.abc import Callable
from dataclasses import dataclass

from load_tests.capacity.routing import ByPicture, LeastBusy, Router
from load_tests.capacity.simulation import Simulation
from load_tests.capacity.traffic import Pictures, Popular, Sittings, arrivals, steady
from load_tests.capacity.workload import h100, kinds

SIDE = 224
REPLICAS = (1, 2, 4, 8)
CACHES = (256_000_000, 4_000_000_000)
BUSY, TOO_MUCH = 0.6, 1.5
"""Parts of the capacity without any hits: at the one hits are counted, at the other throughput."""

WARMING, SECONDS = 40.0, 60.0
ROUTERS: dict[str, Callable[[], Router]] = {"least busy": LeastBusy, "by picture": ByPicture}
CROWDS: dict[str, Callable[[], Pictures]] = {
    "four questions about a picture, 20 s apart": lambda: Sittings(4, 20.0),
    "half of the requests about 100,000 popular pictures": lambda: Popular(100_000, 0.5),
}


@dataclass(frozen=True, slots=True)
class Hits:
    """Of one fleet. ``p95`` in seconds."""

    crowd: str
    router: str
    replicas: int
    cache_bytes: int
    hits: float
    p95: float


def hits(crowd: str, router: str, replicas: int, cache_bytes: int, most: float) -> Hits:
    """At ``BUSY`` of the capacity ``most``."""
    requests = arrivals(steady(BUSY * most * replicas), kinds(SIDE), CROWDS[crowd](), SECONDS, 11)
    seen = Simulation(h100(SIDE, cache_bytes=cache_bytes), replicas, ROUTERS[router](), requests).run().between(WARMING, SECONDS)
    return Hits(crowd, router, replicas, cache_bytes, seen.hit_share, seen.latency(0.95))


def throughput(crowd: str, router: str, replicas: int, cache_bytes: int, most: float) -> float:
    """Answers a second for each replica, asked for more than it can do, to ``most``."""
    requests = arrivals(steady(TOO_MUCH * most * replicas), kinds(SIDE), CROWDS[crowd](), SECONDS, 13)
    run = Simulation(h100(SIDE, cache_bytes=cache_bytes), replicas, ROUTERS[router](), requests, timeout=10.0).run()
    answered = sum(each.status == "answered" and WARMING <= each.ended < SECONDS for each in run.outcomes)
    return answered / (SECONDS - WARMING) / replicas / most

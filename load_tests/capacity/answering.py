"""All answers, as figures. Runs side by side on every core."""

from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from load_tests.capacity.autoscaler import Goal, ScalingRules
from load_tests.capacity.fleets import DEMANDS, ROUTERS, Fleet, Point, curves, fleet
from load_tests.capacity.hashing import CACHES, CROWDS, REPLICAS, Hits, hits, throughput
from load_tests.capacity.hashing import ROUTERS as PICTURE_ROUTERS
from load_tests.capacity.prefill_steps import BOUNDS, Bound, bound
from load_tests.capacity.scaling import MOST_PODS, SIDE, Burst, Climb, burst, climb, goals
from load_tests.capacity.workload import EFFICIENCY

SIDES = (224, 448)
EFFICIENCIES = (0.35, EFFICIENCY, 0.7)
THROUGHPUT_REPLICAS = 4

CALM = 60.0
"""Seconds in which calmer rules let the pods double, or grow by two."""


@dataclass(slots=True)
class Answers:
    """Everything that was asked. ``gains``: crowd, router, bytes of cache, throughput to that without hits."""

    capacities: dict[int, float] = field(default_factory=dict)
    points: dict[int, list[Point]] = field(default_factory=dict)
    fleets: list[Fleet] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    climbs: list[Climb] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    hits: list[Hits] = field(default_factory=list)
    gains: list[tuple[str, str, int, float]] = field(default_factory=list)


def climbs_of(most: float) -> list[tuple[ScalingRules, float]]:
    """Rules, and seconds until the load has doubled. ``most``: a replica's capacity."""

    def rules(goals: tuple[Goal, ...], start_up: float = 120.0, period: float = 15.0) -> ScalingRules:
        return ScalingRules(goals, 2, MOST_PODS, start_up=start_up, period=period, more=4 if period < CALM else 2)

    share = goals(share=0.6, most=most)
    usual = [goals(share=part, most=most) for part in (0.5, 0.6, 0.7)] + [goals(waiting=number) for number in (1.0, 2.0, 4.0)]
    usual += [goals(in_flight=4.0), *(goals(share=0.6, waiting=number, most=most) for number in (2.0, 4.0))]
    calm = [goals(waiting=1.0), goals(waiting=4.0), share, goals(share=0.6, waiting=4.0, most=most)]
    return [
        *((rules(each), 300.0) for each in usual),
        *((rules(each, period=CALM), 300.0) for each in calm),
        *((rules(share, start_up), 300.0) for start_up in (60.0, 300.0)),
        *((rules(share), doubles_in) for doubles_in in (150.0, 600.0)),
    ]


def answer() -> Answers:
    """Takes about ten minutes on two cores."""
    answers = Answers()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        drawn = {side: pool.submit(curves, side) for side in SIDES}
        wanted = [
            pool.submit(fleet, side, demand, router, efficiency)
            for side in SIDES
            for efficiency in EFFICIENCIES
            for demand in reversed(DEMANDS)
            for router in ROUTERS
            if efficiency == EFFICIENCY or (router == "least busy" and demand == 1000)
        ]
        bounds = [pool.submit(bound, side, tokens) for side in SIDES for tokens in BOUNDS]
        for side, future in drawn.items():
            answers.capacities[side], answers.points[side] = future.result()
        most = answers.capacities[SIDE]
        climbs = [pool.submit(climb, *each, most) for each in climbs_of(most)]
        bursts = [pool.submit(burst, factor, 10.0, load, most) for factor in (1.5, 2.0, 3.0) for load in (0.3, 0.4, 0.5, 0.6, 0.7)]
        asked, gained = _hashing(pool, answers.capacities[224])
        answers.fleets = [future.result() for future in wanted]
        answers.bounds = [future.result() for future in bounds]
        answers.climbs = [future.result() for future in climbs]
        answers.bursts = [future.result() for future in bursts]
        answers.hits = [future.result() for future in asked]
        answers.gains = [(*what, future.result()) for what, future in gained]
    return answers


def _hashing(pool: ProcessPoolExecutor, most: float) -> tuple[list[Future[Hits]], list[tuple[tuple[str, str, int], Future[float]]]]:
    cases: list[tuple[str, str, int]] = [(crowd, router, size) for crowd in CROWDS for router in PICTURE_ROUTERS for size in CACHES]
    asked = [
        pool.submit(hits, crowd, router, count, size, most) for crowd, router, size in cases for count in reversed(REPLICAS)
    ]  # fmt: skip
    gained = [
        ((crowd, router, size), pool.submit(throughput, crowd, router, THROUGHPUT_REPLICAS, size, most)) for crowd, router, size in cases
    ]
    return asked, gained

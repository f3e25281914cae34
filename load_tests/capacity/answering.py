"""All answers, as figures. Runs side by side on every core."""

from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context

from load_tests.capacity.autoscaler import Goal, ScalingRules
from load_tests.capacity.fleets import DEMANDS, SIZES, Fleet, Point, capacity, curve, fleet, fleets_at_random
from load_tests.capacity.hashing import CACHES, CROWDS, REPLICAS, ROUTERS, Hits, hits, throughput
from load_tests.capacity.prefill_steps import BOUNDS, Bound, bound
from load_tests.capacity.scaling import MOST_PODS, SIDE, Burst, Climb, burst, climb, goals
from load_tests.capacity.workload import EFFICIENCY, h100, kinds

SIDES = (224, 448)
EFFICIENCIES = (0.35, EFFICIENCY, 0.7)
MIDDLE_DEMAND = 1000
THROUGHPUT_REPLICAS = 4
FACTORS, BURST_LOADS = (1.5, 2.0, 3.0), (0.3, 0.4, 0.5, 0.6, 0.7)

Case = tuple[int, ScalingRules, float, float]

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


def climbs_of(side: int, most: float) -> list[Case]:
    """Rules, seconds until the load has doubled, and ``most``, a replica's capacity."""

    def case(goals: tuple[Goal, ...], doubles_in: float = 300.0, start_up: float = 120.0, period: float = 15.0) -> Case:
        rules = ScalingRules(goals, 2, MOST_PODS, start_up=start_up, period=period, more=4 if period < CALM else 2)
        return (side, rules, doubles_in, most)

    share = goals(share=0.6, most=most)
    if side != SIDE:
        return [case(share), *(case(goals(waiting=number)) for number in (6.0, 8.0, 12.0))]
    usual = [goals(share=part, most=most) for part in (0.5, 0.6, 0.7)] + [goals(waiting=number) for number in (1.0, 2.0, 4.0)]
    usual += [goals(in_flight=4.0), *(goals(share=0.6, waiting=number, most=most) for number in (2.0, 4.0))]
    calm = [goals(waiting=1.0), goals(waiting=4.0), share, goals(share=0.6, waiting=4.0, most=most)]
    return [
        *(case(each) for each in usual),
        *(case(each, period=CALM) for each in calm),
        *(case(share, start_up=start_up) for start_up in (60.0, 300.0)),
        *(case(share, doubles_in) for doubles_in in (150.0, 600.0)),
    ]


def answer() -> Answers:
    """Takes about ten minutes on two cores that have nothing else to do."""
    answers = Answers()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        most = {case: pool.submit(capacity_of, *case) for case in product(SIDES, EFFICIENCIES)}
        answers.capacities = {side: most[side, EFFICIENCY].result() for side in SIDES}
        points = {side: [pool.submit(curve, side, size, answers.capacities[side]) for size in SIZES] for side in SIDES}
        wanted = [(side, demand, EFFICIENCY) for side, demand in product(SIDES, DEMANDS)]
        wanted += [(side, MIDDLE_DEMAND, efficiency) for side, efficiency in product(SIDES, EFFICIENCIES) if efficiency != EFFICIENCY]
        fleets = [pool.submit(fleet, side, demand, part, most[side, part].result()) for side, demand, part in wanted]
        at_random = [pool.submit(fleets_at_random, side, answers.capacities[side]) for side in SIDES]
        bounds = [pool.submit(bound, side, tokens) for side in SIDES for tokens in BOUNDS]
        climbs = [pool.submit(climb, *each) for side in reversed(SIDES) for each in climbs_of(side, answers.capacities[side])]
        bursts = [pool.submit(burst, factor, 10.0, load, answers.capacities[SIDE]) for factor, load in product(FACTORS, BURST_LOADS)]
        asked, gained = _hashing(pool, answers.capacities[224])
        answers.points = {side: [each for future in futures for each in future.result()] for side, futures in points.items()}
        answers.fleets = [future.result() for future in fleets] + [each for future in at_random for each in future.result()]
        answers.bounds = [future.result() for future in bounds]
        answers.climbs = [future.result() for future in climbs]
        answers.bursts = [future.result() for future in bursts]
        answers.hits = [future.result() for future in asked]
        answers.gains = [(*what, future.result()) for what, future in gained]
    return answers


def capacity_of(side: int, efficiency: float) -> float:
    """Of one replica: answers a second."""
    return capacity(h100(side, efficiency), kinds(side))


def _hashing(pool: ProcessPoolExecutor, most: float) -> tuple[list[Future[Hits]], list[tuple[tuple[str, str, int], Future[float]]]]:
    cases: list[tuple[str, str, int]] = [(crowd, router, size) for crowd in CROWDS for router in ROUTERS for size in CACHES]
    asked = [
        pool.submit(hits, crowd, router, count, size, most) for crowd, router, size in cases for count in reversed(REPLICAS)
    ]  # fmt: skip
    gained = [
        ((crowd, router, size), pool.submit(throughput, crowd, router, THROUGHPUT_REPLICAS, size, most)) for crowd, router, size in cases
    ]
    return asked, gained

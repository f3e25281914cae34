"""What an autoscaler must count, at which target, so that a ramp costs nobody an answer: lag, head-room, bursts."""

from dataclasses import dataclass

from load_tests.capacity.autoscaler import Autoscaler, Counted, Goal, ScalingRules
from load_tests.capacity.routing import LeastBusy
from load_tests.capacity.simulation import Simulation
from load_tests.capacity.traffic import Fresh, Profile, arrivals, bursts, ramp
from load_tests.capacity.workload import MOST_LOST, TARGET, h100, kinds

SIDE = 448
"""Pixels. Fewer requests for each replica than at 224, and so quicker to simulate; most ramps are at this one."""

KEPT = 5
"""Of so many samples one is written down."""

SETTLES, AFTER = 120.0, 120.0
"""Seconds before and after the ramp."""

LOW = 2.4
"""Of a replica's capacity: what there is before the ramp."""

MOST_PODS = 24
"""More than three times of what the ramp needs in the end."""


def goals(share: float = 0.0, waiting: float = 0.0, in_flight: float = 0.0, most: float = 0.0) -> tuple[Goal, ...]:
    """Those that are above 0. ``share`` of the capacity ``most`` is a goal for answers."""
    wanted = ((Counted.ANSWERS, share * most), (Counted.WAITING, waiting), (Counted.IN_FLIGHT, in_flight))
    return tuple(Goal(counted, target) for counted, target in wanted if target)


def lag(rules: ScalingRules) -> float:
    """Seconds from a demand until the pods for it are ready, on average."""
    return rules.over / 2 + rules.delay + rules.sync / 2 + rules.start_up


def most_utilisation(seconds: float, doubles_in: float) -> float:
    """The most that pods may be used before a straight ramp, so that those there carry what comes until the next are ready."""
    return 1 / (1 + seconds / doubles_in)


@dataclass(frozen=True, slots=True)
class Climb:
    """A ramp with an autoscaler: seconds until the load has doubled, the rules' own, and what came of it.

    ``most`` is a replica's capacity at this ``side``. ``p95`` is that of the worst half minute, in seconds. ``paid``: replicas that were
    there, to those that the load needs at the least.
    """

    side: int
    most: float
    goals: tuple[Goal, ...]
    doubles_in: float
    start_up: float
    period: float
    p95: float
    lost: float
    paid: float
    times: tuple[float, ...]
    ready: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Whether it keeps what is promised, in every half minute of the ramp."""
        return self.p95 <= TARGET and self.lost <= MOST_LOST


def climb(side: int, rules: ScalingRules, doubles_in: float, most: float) -> Climb:
    """From ``LOW`` to three times that; ``most`` is a replica's capacity."""
    lasts = 2 * doubles_in
    ends = SETTLES + lasts + AFTER
    profile: Profile = ramp(LOW * most, 3 * LOW * most, SETTLES, lasts)
    simulation = Simulation(
        h100(side), 4, LeastBusy(), arrivals(profile, kinds(side), Fresh(), ends, 5), Autoscaler(rules), timeout=10.0
    )  # fmt: skip
    run = simulation.run()
    parts = [run.between(begin, begin + 30.0) for begin in range(int(SETTLES), int(ends) - 30, 30)]
    samples = [each for each in run.samples if each.time >= SETTLES]
    needed = sum(profile.at(each.time) / most for each in samples)
    paid = sum(each.wanted for each in samples) / needed
    seen = run.between(SETTLES, ends)
    worst = max(each.latency(0.95) for each in parts)
    kept = run.samples[::KEPT]
    times, ready = tuple(each.time for each in kept), tuple(each.ready for each in kept)
    return Climb(side, most, rules.goals, doubles_in, rules.start_up, rules.period, worst, seen.lost, paid, times, ready)


def told_goals(climb: Climb) -> str:
    """Goals in words."""
    told = []
    for goal in climb.goals:
        if goal.counted is Counted.ANSWERS:
            told.append(f"answers/s at {goal.target / climb.most:.0%} of capacity")
        else:
            told.append(f"{goal.counted.value} {goal.target:g} a pod")
    return " or ".join(told)


@dataclass(frozen=True, slots=True)
class Burst:
    """Bursts that no autoscaler can follow: ``factor`` times the load for ``lasts`` seconds of every minute, of a fleet of four."""

    factor: float
    lasts: float
    load: float
    p95: float
    lost: float

    @property
    def holds(self) -> bool:
        """Whether it keeps what is promised."""
        return self.p95 <= TARGET and self.lost <= MOST_LOST


def burst(factor: float, lasts: float, load: float, most: float) -> Burst:
    """``load``: between the bursts, as a part of the capacity."""
    profile = bursts(4 * load * most, factor, 60.0, lasts)
    run = Simulation(h100(SIDE), 4, LeastBusy(), arrivals(profile, kinds(SIDE), Fresh(), 180.0, 7), timeout=10.0).run()
    return Burst(factor, lasts, load, run.latency(0.95), run.lost)

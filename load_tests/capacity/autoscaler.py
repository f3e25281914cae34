"""Kubernetes' HorizontalPodAutoscaler, with the lag of its metrics and of starting pods."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Counted(StrEnum):
    """What an autoscaler looks at. Gauges are means over a time, answers a rate; all of them are sums over the pods."""

    WAITING = "waiting"
    IN_FLIGHT = "waiting and running"
    ANSWERS = "answers a second"


@dataclass(frozen=True, slots=True)
class Goal:
    """``target`` is the average for each pod of what is counted."""

    counted: Counted
    target: float


class Seen(NamedTuple):
    """A look at all pods: requests that wait, requests that run, and answers given until then."""

    time: float
    waiting: int
    running: int
    answered: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Of several goals the one that asks for most pods counts.

    Seconds: ``sync`` between two decisions; ``over`` which a metric is averaged; ``delay`` from then until the autoscaler can see it, by
    scraping and the adapter's own interval; ``start_up`` until a new pod is ready; ``window`` for which the highest wish holds before pods
    go. Within ``period`` there may be twice the pods, or ``more`` of them, whichever is more: what stands here is Kubernetes' default.
    """

    goals: tuple[Goal, ...]
    least: int
    most: int
    sync: float = 15.0
    over: float = 60.0
    delay: float = 15.0
    start_up: float = 120.0
    window: float = 300.0
    tolerance: float = 0.1
    period: float = 15.0
    more: int = 4


class Autoscaler:
    """Decides how many replicas there are to be."""

    def __init__(self, rules: ScalingRules) -> None:
        self.rules = rules
        self._wishes: list[tuple[float, int]] = []
        self._added: list[tuple[float, int]] = []

    def decide(self, now: float, seen: Sequence[Seen], wanted: int) -> int:
        """``seen``: all looks until now, in order. ``wanted``: pods that are to be there now."""
        rules = self.rules
        # What it finds when it begins counts as its first wish.
        self._wishes = self._wishes or [(now, wanted)]
        end = now - rules.delay
        known = [each for each in seen if end - rules.over <= each.time <= end]
        if end < rules.over or len(known) < 2:
            return wanted
        wish = max(self._wish(goal, known, wanted) for goal in rules.goals)
        wish = min(max(wish, rules.least), rules.most)
        self._wishes = [(time, each) for time, each in self._wishes if time > now - rules.window] + [(now, wish)]
        if wish <= wanted:
            return min(wanted, max(each for _, each in self._wishes))
        self._added = [(time, each) for time, each in self._added if time > now - rules.period]
        before = wanted - sum(each for _, each in self._added)
        allowed = max(wanted, min(wish, max(2 * before, before + rules.more)))
        self._added.append((now, allowed - wanted))
        return allowed

    def _wish(self, goal: Goal, known: Sequence[Seen], wanted: int) -> int:
        total = _total(goal.counted, known)
        if abs(total / (goal.target * wanted) - 1) <= self.rules.tolerance:
            return wanted
        return math.ceil(total / goal.target)


def _total(counted: Counted, known: Sequence[Seen]) -> float:
    if counted is Counted.ANSWERS:
        return (known[-1].answered - known[0].answered) / (known[-1].time - known[0].time)
    running = 0 if counted is Counted.WAITING else sum(each.running for each in known)
    return (running + sum(each.waiting for each in known)) / len(known)

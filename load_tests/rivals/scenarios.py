"""What the contestants are asked, in which order."""

from dataclasses import dataclass

import numpy as np

from load_tests.rivals.asks import LONGEST, SHORTEST, Ask, asks
from load_tests.rivals.contest import FIXED, LITSERVE, LOCK, OURS, Contest

QUESTIONS = 8


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests for each server and number of callers, and how often. ``open_seconds`` of an open loop at each load."""

    varied: bool
    rounds: int
    at: dict[int, dict[str, int]]
    pictures: int
    open_seconds: float
    open_loads: tuple[float, ...]


EMBEDDED = Counts(
    varied=False,
    rounds=3,
    at={
        32: {OURS: 420, LITSERVE: 192, FIXED: 128, LOCK: 64},
        1: {OURS: 56, LOCK: 42},
        8: {OURS: 210, LITSERVE: 96},
        64: {OURS: 420, LITSERVE: 192},
    },
    pictures=0,
    open_seconds=10,
    open_loads=(0.5, 0.8, 1.2),
)
MEDIUM = Counts(
    varied=True,
    rounds=2,
    at={32: {OURS: 64, LITSERVE: 48, FIXED: 32}, 1: {OURS: 7, LOCK: 7}, 8: {OURS: 24, LITSERVE: 24}},
    pictures=64,
    open_seconds=40,
    open_loads=(0.8, 1.2),
)


def run(contest: Contest, counts: Counts) -> float:
    """Everything, taking turns; returns the capacity that the open loops are measured by."""
    for server in contest.servers:
        contest.warm(server, asks(16 if counts.varied else 48, seed=1, varied=counts.varied))
    for callers, servers in counts.at.items():
        for turn in range(counts.rounds if callers in (1, 32) else 1):
            for server, count in servers.items():
                contest.closed(server, f"{callers} at once", _fresh(counts, count, 100 * callers + turn), callers)
    if counts.pictures:
        for turn in range(counts.rounds):
            contest.closed(OURS, "distinct pictures", _fresh(counts, counts.pictures, 7000 + turn), 32)
            many = asks(counts.pictures, 8000 + turn, questions=QUESTIONS, varied=counts.varied)
            contest.closed(OURS, f"{QUESTIONS} questions a picture", many, 32)
    capacity = max(run.rate for run in contest.measured[OURS, "32 at once"].runs)
    for load in counts.open_loads:
        rate = load * capacity
        wanted = _fresh(counts, round(rate * counts.open_seconds), 9000 + round(100 * load))
        contest.opened(OURS, f"open at {100 * load:.0f} %", wanted, rate)
    # The same stream of requests as ours at its half load.
    rate = counts.open_loads[0] * capacity
    contest.opened(
        LITSERVE, f"open at {100 * counts.open_loads[0]:.0f} %", _fresh(counts, round(rate * counts.open_seconds / 2), 9500), rate
    )
    return capacity


def _fresh(counts: Counts, count: int, seed: int) -> list[Ask]:
    """Pictures that nobody was asked about before."""
    return asks(count, seed, varied=counts.varied)


def waste(count: int = 4096) -> float:
    """The part of a fixed batch's decode rows that compute for answers which have ended already: lengths 4..64, batches of 16."""
    lengths = np.random.default_rng(5).integers(SHORTEST, LONGEST + 1, (count // 16, 16))
    return float(1 - lengths.sum() / (16 * lengths.max(axis=1)).sum())

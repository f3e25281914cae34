"""When requests come."""

import random


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of arrivals in seconds from the start: so many a second on average, none knowing of another."""
    chance, moment, times = random.Random(seed), 0.0, []  # noqa: S311 (nothing here is secret)
    while (moment := moment + chance.expovariate(rate)) < seconds:
        times.append(moment)
    return times

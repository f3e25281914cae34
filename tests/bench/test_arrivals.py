import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.bench.arrivals import poisson

RATES = st.floats(0.5, 200)
SEEDS = st.integers(0, 2**32)


@given(RATES, st.floats(0.1, 20), SEEDS)
def test_moments_come_in_order_within_the_time_and_again_with_the_same_seed(rate: float, seconds: float, seed: int) -> None:
    times = poisson(rate, seconds, seed)
    assert all(before < after for before, after in pairwise(times))
    assert all(0 < moment < seconds for moment in times)
    assert times == poisson(rate, seconds, seed)


@given(RATES, SEEDS)
def test_a_longer_time_only_adds_to_a_shorter_one(rate: float, seed: int) -> None:
    longer = poisson(rate, 4.0, seed)
    assert poisson(rate, 2.0, seed) == [moment for moment in longer if moment < 2.0]


@given(SEEDS)
def test_as_many_come_as_the_rate_says_and_their_pauses_know_nothing_of_one_another(seed: int) -> None:
    times = poisson(100.0, 100.0, seed)
    # A Poisson number varies by the root of its mean: seven times that is not seen in a lifetime.
    assert abs(len(times) - 10_000) < 7 * math.sqrt(10_000)
    pauses = [after - before for before, after in pairwise(times)]
    mean = sum(pauses) / len(pauses)
    # Exponential pauses: a share 1/e of them is longer than their mean.
    longer = sum(pause > mean for pause in pauses) / len(pauses)
    assert abs(longer - 1 / math.e) < 0.04

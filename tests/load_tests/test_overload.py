"""From replies to what is told of a storm."""

import math

import pytest

from load_tests.overload import AFTER, BEFORE, BIN, CALM, SETTLING, measure, recovery, schedule
from service.bench.load_generator import GAVE_UP, Reply

SECONDS = 15.0
ENDED = BEFORE + SECONDS


def reply(due: float, latency: float, status: int = 200) -> Reply:
    return Reply(0, status, due, due + latency, {})


def test_a_storm_has_calm_before_and_after() -> None:
    times = schedule(20.0, 10.0, SECONDS, 1)
    assert times == sorted(times)
    before, during, after = (
        sum(1 for each in times if begin <= each < end) / (end - begin)
        for begin, end in ((0, BEFORE), (BEFORE, ENDED), (ENDED, ENDED + AFTER))
    )
    assert during == pytest.approx(200, rel=0.1)
    assert before == pytest.approx(20 * CALM, rel=0.5)
    assert after == pytest.approx(20 * CALM, rel=0.5)


def test_only_answers_in_time_are_good_and_what_is_neither_answer_nor_refusal_is_told() -> None:
    calm = [reply(float(second), 0.1) for second in range(10)]
    moments = [BEFORE + SETTLING + 0.1 * step for step in range(90)]
    kinds = [(1.0, 200), (0.002, 503), (5.5, 200), (15.0, GAVE_UP), (5.0, 504)]
    storm = [reply(moment, *kinds[number % 5]) for number, moment in enumerate(moments)]
    early = [reply(BEFORE + 0.1, 0.5)]
    found = measure(2.0, 20.0, SECONDS, [*calm, *early, *storm], [100] * 10 + [300, 400, 200])
    assert found.good == pytest.approx(18 / 10)
    assert (found.refused, found.others) == (18, 36)
    assert found.refused_p99 == pytest.approx(0.002)
    assert found.answered_p99 == pytest.approx(5.5)
    assert (found.memory_most, found.memory_after) == (400, 200)


def test_who_is_not_refused_has_no_refusals_to_tell_of() -> None:
    found = measure(1.0, 20.0, SECONDS, [reply(1.0, 0.1), reply(BEFORE + SETTLING, 0.1)], [1] * 12)
    assert found.refused == 0
    assert math.isnan(found.refused_p99)


@pytest.mark.parametrize(("last_bad", "status", "latency"), [(-1, 200, 0.1), (0, 503, 0.001), (3, 200, 0.25), (5, GAVE_UP, 9.0)])
def test_recovery_ends_with_the_last_look_that_was_not_as_before(last_bad: int, status: int, latency: float) -> None:
    replies = [reply(ENDED + BIN * number + 0.01, *((latency, status) if number <= last_bad else (0.1, 200))) for number in range(15)]
    assert recovery(replies, ENDED, slow=0.2) == pytest.approx((last_bad + 1) * BIN)

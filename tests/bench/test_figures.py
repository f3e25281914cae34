import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bench.figures import capacity, measured, percentile
from service.bench.http_connection import BROKEN
from service.bench.load_generator import GAVE_UP, Reply

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1)
SHARES = st.floats(0, 1)
REPLIES = st.lists(
    st.builds(
        lambda status, due, took: Reply(0, status, due, due + took, {"usage": {"completion_tokens": 2}}),
        st.sampled_from([200, 503, 429, 422, 500, GAVE_UP, BROKEN]), st.floats(0, 12), st.floats(0, 5),
    )
)  # fmt: skip


def reply(due: float, took: float, status: int = 200, first: float = math.nan, tokens: int = 3) -> Reply:
    return Reply(0, status, due, due + took, {"usage": {"completion_tokens": tokens}}, first=first)


@given(VALUES, SHARES)
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < max(1.0, share * len(values))


@given(VALUES, SHARES, SHARES)
def test_percentiles_do_not_fall(values: list[float], one: float, other: float) -> None:
    assert percentile(values, min(one, other)) <= percentile(values, max(one, other))


@given(REPLIES)
def test_whoever_was_due_was_answered_refused_or_failed(replies: list[Reply]) -> None:
    load = measured(replies, 5.0, 10.0)
    assert load.sent == load.answered + load.refused + load.failed == sum(1 <= each.due < 10 for each in replies)
    assert load.failed == sum(load.failures.values())
    assert load.seconds == 9.0
    assert 0 <= load.errors <= 1
    known = [value for value in (load.p50, load.p90, load.p99, load.max) if value is not None]
    assert known == sorted(known)


def test_a_load_is_measured_without_its_first_part() -> None:
    replies = [reply(0.5, 0.2), reply(0.95, 0.1), reply(2.0, 0.3), reply(9.9, 0.4)]
    load = measured(replies, 1.0, 10.0)
    # The second was due before and came in the time; the last was due in it and came after.
    assert (load.sent, load.answered, load.p50, load.max) == (2, 2, 300.0, 400.0)
    assert load.goodput == pytest.approx(2 / 9)
    assert load.tokens_rate == pytest.approx(6 / 9)


def test_who_was_given_up_waited_as_long_as_that_and_refusals_were_quick() -> None:
    load = measured(
        [reply(2, 0.1), reply(3, 5.0, GAVE_UP), reply(3, 4.9, 504), reply(4, 0.001, 503), reply(5, 0.001, 422), reply(6, 0.0, BROKEN)],
        1.0,
        10.0,
    )
    assert (load.answered, load.refused, load.failed) == (1, 1, 4)
    assert (load.p50, load.max) == (4900.0, 5000.0)
    assert load.failures == {"no answer in time": 1, "504": 1, "422": 1, "connection failed": 1}
    assert load.errors == pytest.approx(5 / 6)


def test_a_stream_has_a_first_token_and_time_between_the_others() -> None:
    load = measured([reply(2.0, 0.5, first=2.1, tokens=5), reply(3.0, 0.2, first=3.2, tokens=1)], 1.0, 10.0)
    assert (load.first_p50, load.first_p99) == (100.0, 200.0)
    assert (load.between_p50, load.between_p99) == (100.0, 100.0)


def test_nothing_heard_is_no_figure() -> None:
    load = measured([], 1.0, 10.0)
    assert (load.sent, load.p99, load.first_p50, load.client_late_p99, load.errors) == (0, None, None, None, 0.0)


def test_capacity_is_from_the_ramp_s_end_until_the_time_is_over() -> None:
    # Ten a second, then the last ones who were in flight, ever more slowly.
    replies = [*(reply(0, 0.1 * number) for number in range(1, 41)), reply(0, 6.0), reply(0, 9.0)]
    assert capacity(replies, 4, 4.05) == pytest.approx(10.0)
    assert capacity(replies[:1], 1, 4.0) == 0.0
    assert capacity([reply(0, 1.0, 503)] * 9, 2, 4.0) == 0.0

"""Quotas, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.keys import Key, Limits
from service.access.quotas import Admission, Bucket, Quota, Quotas
from service.errors import PermissionDenied, RateLimited


def waits(quota: Quota, now: float, images: int = 0) -> float:
    with pytest.raises(RateLimited) as caught:
        quota.enter(now, images)
    return caught.value.retry_after


def test_a_minute_s_worth_at_once_then_one_at_a_time() -> None:
    quota = Quota(Limits(requests_per_minute=6), 100.0)
    for _ in range(6):
        quota.enter(100.0)
    assert waits(quota, 100.0) == pytest.approx(10.0)
    assert waits(quota, 104.0) == pytest.approx(6.0)
    quota.enter(110.0)
    assert waits(quota, 110.0) == pytest.approx(10.0)
    # Nothing more than a minute's worth is saved.
    for _ in range(6):
        quota.enter(10_000.0)
    assert waits(quota, 10_000.0) == pytest.approx(10.0)


def test_every_picture_counts() -> None:
    quota = Quota(Limits(images_per_minute=10), 0.0)
    quota.enter(0.0, 7)
    assert waits(quota, 0.0, 4) == pytest.approx(6.0)
    quota.enter(0.0, 3)
    quota.show(0, 0.0)
    with pytest.raises(RateLimited):
        quota.show(1, 0.0)


def test_what_can_never_be_answered_is_not_told_to_wait() -> None:
    quota = Quota(Limits(images_per_minute=3), 0.0)
    with pytest.raises(PermissionDenied, match=r"3 pictures a minute.* has 4"):
        quota.enter(0.0, 4)
    assert quota.running == 0


def test_no_more_at_once_than_allowed() -> None:
    quota = Quota(Limits(concurrent=2), 0.0)
    quota.enter(0.0)
    quota.enter(0.0)
    with pytest.raises(RateLimited, match="2 requests at once"):
        quota.enter(0.0)
    quota.leave()
    quota.enter(0.0)
    assert quota.running == 2


def test_who_is_refused_by_one_limit_pays_nothing_to_the_others() -> None:
    quota = Quota(Limits(requests_per_minute=2, images_per_minute=1, concurrent=9), 0.0)
    quota.enter(0.0, 1)
    for _ in range(5):
        assert waits(quota, 0.0, 1) == pytest.approx(60.0)
    quota.enter(0.0)
    assert waits(quota, 0.0) == pytest.approx(30.0)
    assert quota.running == 2


@given(st.integers(1, 5000), st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_who_comes_back_when_told_is_let_in(per_minute: int, steps: list[tuple[float, bool]]) -> None:
    bucket, now, taken = Bucket(per_minute, 0.0), 0.0, 0
    for pause, obeys in steps:
        now += pause
        wait = bucket.wait(1, now)
        if wait and obeys:
            now += wait
            assert bucket.wait(1, now) == 0
        if not wait or obeys:
            bucket.take(1)
            taken += 1
        # Never more than was saved and has come since.
        assert taken <= per_minute * (1 + now / 60) + 0.01


def test_a_changed_limit_takes_what_is_left_with_it() -> None:
    quotas = Quotas()
    quota = quotas.of(Key("a", b"", limits=Limits(requests_per_minute=10)), 0.0)
    for _ in range(5):
        quota.enter(0.0)
    assert quotas.of(Key("a", b"", limits=Limits(requests_per_minute=2)), 0.0) is quota
    quota.enter(0.0)
    assert waits(quota, 0.0) == pytest.approx(30.0)
    quotas.of(Key("a", b""), 0.0).enter(0.0)
    assert quota.running == 7


def test_only_keys_in_force_are_remembered() -> None:
    quotas = Quotas()
    for number in range(100):
        quotas.of(Key(f"key-{number}", b""), 0.0)
    quotas.keep({"key-7", "key-8", "another"})
    assert len(quotas) == 2


def test_the_first_request_of_a_visit_was_counted_at_the_door() -> None:
    quota = Quota(Limits(requests_per_minute=2, images_per_minute=5, concurrent=2), 0.0)
    with Admission(quota, lambda: 0.0) as visit:
        with visit.request(1), visit.request(4):
            assert quota.running == 2
            with pytest.raises(RateLimited, match="at once"), visit.request(1):
                pass
        assert quota.running == 1
        with pytest.raises(RateLimited), visit.request(0):
            pass
    assert quota.running == 0


def test_requests_of_a_stream_may_follow_one_another_in_its_place() -> None:
    quota = Quota(Limits(requests_per_minute=3, concurrent=1), 0.0)
    with Admission(quota, lambda: 0.0) as visit:
        for _ in range(3):
            with visit.request(1), pytest.raises(RateLimited, match="at once"), visit.request(1):
                pass
        assert quota.running == 1
        with pytest.raises(RateLimited, match="a minute"), visit.request(1):
            pass
    assert quota.running == 0


def test_a_visit_that_fails_gives_its_place_back() -> None:
    quota = Quota(Limits(concurrent=1), 0.0)

    def fail() -> None:
        with Admission(quota, lambda: 0.0) as visit, visit.request(1):
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert quota.running == 0

"""Thresholds on locust's own statistics."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from load_tests.locust.thresholds import OTHERS, REFUSED, Thresholds, check

Fill = Callable[..., Any]


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Makes statistics of an entry's requests: so many good ones of so many milliseconds, and others."""
    # Else it would change this process's own sockets and locks.
    monkeypatch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")
    module = importlib.import_module("locust.stats")

    def fill(good: int = 100, milliseconds: float = 50, failed: int = 0, refused: int = 0, name: str = "caption") -> Any:
        made = module.RequestStats()
        for _ in range(good + failed + refused):
            made.log_request("POST", name, milliseconds, 10)
        for count, what in ((failed, "status 500"), (refused, REFUSED)):
            for _ in range(count):
                made.log_error("POST", name, Exception(what))
        return made

    return fill


LIMITS = Thresholds(entries=("caption",), requests=10, failures=0.01, refusals=0.1, p95={OTHERS: 1000.0})


@pytest.mark.parametrize(
    ("filled", "words"),
    [
        ({}, []),
        ({"good": 99, "failed": 1}, []),
        ({"good": 90, "refused": 10}, []),
        ({"good": 98, "failed": 2}, ["2 of 100 failed"]),
        ({"good": 89, "refused": 11}, ["11 of 100 were refused"]),
        ({"milliseconds": 1100}, ["caption: the p95 is 1100 ms"]),
        ({"good": 9}, ["9 requests were sent"]),
        ({"good": 0}, ["0 requests were sent", "nothing was asked of: caption"]),
        ({"name": "read"}, ["nothing was asked of: caption"]),
        ({"good": 0, "failed": 100, "milliseconds": 9000}, ["100 of 100 failed", "p95"]),
    ],
)
def test_what_does_not_hold_is_told(stats: Fill, filled: dict[str, Any], words: list[str]) -> None:
    told = list(LIMITS.broken_by(stats(**filled)))
    assert len(told) == len(words), told
    assert all(word in line for word, line in zip(words, told, strict=True))


def test_an_entry_may_have_a_limit_of_its_own(stats: Fill) -> None:
    limits = Thresholds(entries=(), p95={OTHERS: 10.0, "slow": 1000.0})
    assert not list(limits.broken_by(stats(name="slow")))
    assert list(limits.broken_by(stats(name="quick")))


def test_what_several_users_ask_for_is_told_once(stats: Fill) -> None:
    class User:
        thresholds = LIMITS

    class Other(User):
        thresholds = Thresholds(entries=("read",), requests=10)

    assert len(check(stats(good=1), [User, User, Other])) == 2
    assert check(stats(), [User]) == []


def test_a_user_who_fails_is_no_pass(stats: Fill) -> None:
    class User:
        thresholds = LIMITS

    (told,) = check(stats(), [User], [{"count": 3, "msg": "StopIteration()", "traceback": "", "nodes": set()}])
    assert told == "a user failed 3 times: StopIteration()"

"""What all requests together may hold."""

import pytest

from service.errors import Overloaded
from service.transports.budget import Budget


def test_holds_share_one_budget_and_give_all_back() -> None:
    refused: list[None] = []
    budget = Budget(100, lambda: refused.append(None))
    with budget.hold() as one, budget.hold() as another:
        one.take(60)
        another.take(40)
        with pytest.raises(Overloaded):
            another.take(1)
        assert (one.bytes, another.bytes, budget.held, len(refused)) == (60, 40, 100, 1)
        one.keep(10)
        one.keep(50)
        another.check(50)
        assert budget.held == 50
        with pytest.raises(Overloaded):
            another.check(51)
        another.take(50)
        another.give(30)
        assert budget.held == 70
    assert budget.held == 0


def test_what_is_held_is_given_back_when_a_request_fails() -> None:
    budget = Budget(100)

    def failing() -> None:
        with budget.hold() as hold, hold.more(40):
            hold.take(60)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        failing()
    assert budget.held == 0


def test_a_budget_without_a_bound_counts() -> None:
    budget = Budget()
    with budget.hold() as hold:
        hold.take(10**12)
        assert budget.held == 10**12

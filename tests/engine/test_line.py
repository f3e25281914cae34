from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from service.engine.line import Line
from service.engine.request import Request
from tests.fakes import generation


def request(caller: str = "") -> Request:
    return Request(generation(1), 0.0, caller=caller)


def served(line: Line, count: int, live: list[Request] | None = None) -> list[str]:
    """The callers of the next ones, each taken one at a time, who then hold a slot."""
    sitting = list(live or [])
    callers = []
    for _ in range(count):
        chosen = next(line.joining(sitting))
        line.take([chosen])
        sitting.append(chosen)
        callers.append(chosen.caller)
    return callers


def test_one_caller_is_served_in_order() -> None:
    line, requests = Line(), [request() for _ in range(5)]
    for each in requests:
        line.add(each)
    assert list(line.joining([])) == requests
    line.take(requests[:2])
    assert list(line.joining([])) == requests[2:]
    assert len(line) == 3


def test_callers_take_turns_however_many_requests_one_has() -> None:
    line = Line()
    for _ in range(100):
        line.add(request("flood"))
    for _ in range(3):
        line.add(request("one"))
    line.add(request("other"))
    assert Counter(served(line, 6)) == {"flood": 3, "one": 2, "other": 1}


def test_a_slot_goes_to_who_holds_fewest() -> None:
    line = Line()
    live = [request("flood") for _ in range(3)]
    for caller in ["flood"] * 4 + ["one"] * 4:
        line.add(request(caller))
    assert served(line, 4, live) == ["one", "one", "one", "flood"]


def test_with_a_single_slot_who_comes_back_takes_turns() -> None:
    line = Line()
    for _ in range(5):
        line.add(request("flood"))
    order = []
    for _ in range(6):
        if not any(each.caller == "one" for each in line.joining([])):
            line.add(request("one"))
        order += served(line, 1)
    assert order == ["flood", "one"] * 3


def test_what_joins_is_what_is_taken_one_by_one() -> None:
    line = Line()
    for caller in "aaaabbc":
        line.add(request(caller))
    foreseen = [each.caller for each in islice(line.joining([]), 5)]
    assert foreseen == served(line, 5)


def test_the_lost_leave_and_the_others_keep_their_order() -> None:
    line, requests = Line(), [request(caller) for caller in "abab"]
    for each in requests:
        line.add(each)
    lost = {requests[0], requests[2]}
    assert set(line.drop(lambda each: each in lost)) == lost
    assert list(line.joining([])) == [requests[1], requests[3]]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), max_size=6))
def test_nobody_is_lost_and_nobody_is_served_twice(waiting: list[str], live: list[str]) -> None:
    line, requests = Line(), [request(caller) for caller in waiting]
    for each in requests:
        line.add(each)
    order = list(line.joining([request(caller) for caller in live]))
    assert len(order) == len(set(order)) == len(requests)
    for caller in "abc":
        assert [each for each in order if each.caller == caller] == [each for each in requests if each.caller == caller]
    line.take(order)
    assert not len(line)

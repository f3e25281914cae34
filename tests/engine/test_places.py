from hypothesis import given
from hypothesis import strategies as st

from service.engine.places import Places


def filled(**held: int) -> Places:
    places = Places()
    for caller, count in held.items():
        for _ in range(count):
            places.add(caller)
    return places


def test_one_caller_may_fill_it_and_no_more() -> None:
    assert filled(one=2).has_room("one", 3)
    assert not filled(one=3).has_room("one", 3)


def test_threat_49_a_caller_who_fills_the_queue_keeps_no_other_out() -> None:
    full = filled(flood=8)
    for _ in range(4):
        assert full.has_room("one", 8)
        full.add("one")
    assert not full.has_room("one", 8)
    assert not full.has_room("flood", 8)
    assert full.has_room("other", 8)


def test_threat_49_who_is_ahead_is_counted_in_turns() -> None:
    places = filled(flood=50, one=2)
    assert places.ahead("flood") == 52
    assert places.ahead("one") == 5
    assert places.ahead("new") == 2


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=300))
def test_threat_49_never_more_than_twice_the_limit_wait(limit: int, moves: list[tuple[int, bool]]) -> None:
    places, held = Places(), [0] * 31
    for caller, comes in moves:
        if comes and places.has_room(str(caller), limit):
            places.add(str(caller))
            held[caller] += 1
        elif not comes and held[caller]:
            places.remove(str(caller))
            held[caller] -= 1
        assert places.waiting == sum(held) <= 2 * limit


def test_threat_49_callers_who_fill_their_shares_one_after_the_other_wait_no_more_than_twice_the_limit() -> None:
    places, limit = Places(), 256
    for caller in map(str, range(limit)):
        while places.has_room(caller, limit):
            places.add(caller)
    assert places.waiting == 2 * limit
    places.remove("0")
    assert not places.has_room("0", limit), "it is above its share"
    assert places.has_room("new", limit)

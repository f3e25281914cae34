import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.request import Request
from service.engine.slots import SlotTable
from tests.fakes import generation


def requests(count: int) -> list[Request]:
    return [Request(generation(1, last), 0.0) for last in range(count)]


def test_requests_are_seated_behind_the_live_ones() -> None:
    table = SlotTable(4)
    one, two, three = requests(3)
    assert table.take([one]) == 0
    assert table.take([two, three]) == 1
    assert table.live == [one, two, three]
    assert table.free == 1


def test_more_requests_than_free_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SlotTable(1).take(requests(2))


def test_the_last_row_fills_the_hole() -> None:
    table = SlotTable(4)
    one, two, three = requests(3)
    table.take([one, two, three])
    assert table.release({one}) == [(2, 0)]
    assert table.live == [three, two]


@given(st.integers(0, 12), st.data())
def test_moves_carry_every_staying_row_to_its_slot(count: int, data: st.DataObject) -> None:
    table = SlotTable(12)
    seated = requests(count)
    table.take(seated)
    leaving = {request for request in seated if data.draw(st.booleans())}
    rows: list[Request] = list(seated)
    for source, target in table.release(leaving):
        rows[target] = rows[source]
    assert rows[: len(table.live)] == table.live
    assert set(table.live) == set(seated) - leaving

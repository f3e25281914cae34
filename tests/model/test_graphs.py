import pytest

from service.model.graphs import doubling, least


@pytest.mark.parametrize(
    ("first", "last", "sizes"), [(1, 1, [1]), (1, 8, [1, 2, 4, 8]), (1, 6, [1, 2, 4, 6]), (64, 100, [64, 100]), (5, 3, [3])]
)
def test_sizes_double_and_end_with_the_last(first: int, last: int, sizes: list[int]) -> None:
    assert doubling(first, last) == sizes


def test_the_least_size_that_holds_is_taken() -> None:
    assert [least([1, 2, 4, 6], wanted) for wanted in (1, 2, 3, 5, 6)] == [1, 2, 4, 6, 6]
    with pytest.raises(ValueError, match="7 is more"):
        least([1, 6], 7)

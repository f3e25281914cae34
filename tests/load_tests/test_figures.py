import pytest

from load_tests.rivals.figures import closed, opened, same_texts, waste
from service.bench.load_generator import GAVE_UP, Reply


def reply(index: int, ended: float, due: float = 0.0, status: int = 200, fields: dict[str, object] | None = None) -> Reply:
    return Reply(index, status, due, ended, {"text": "", "tokens": 1} | (fields or {}))


def test_a_closed_loop_is_measured_from_the_ramps_end_on() -> None:
    figures = closed([reply(index, ended=1.0 + index) for index in range(10)], ramp=2, count=4)
    assert (figures.rate, figures.measured, figures.seconds) == (1.0, 4, 4.0)


def test_no_part_of_a_batch_is_counted_without_its_time() -> None:
    batches = [reply(4 * batch + row, ended=1.0 + batch + row / 1000) for batch in range(4) for row in range(4)]
    figures = closed(batches, ramp=2, count=8)
    assert figures.measured == 8
    assert figures.rate == pytest.approx(4.0)


def test_what_is_not_answered_counts_as_failed() -> None:
    figures = closed([reply(0, 1.0), reply(1, 2.0, status=503), reply(2, 3.0), reply(3, 4.0)], ramp=1, count=3)
    assert figures.failed == 1
    assert figures.rate == pytest.approx(2 / 3)


def test_an_open_loop_counts_answers_in_time_refusals_and_late_ones() -> None:
    replies = [
        reply(0, 1.0, due=0.5),
        reply(1, 3.9, due=1.0),
        reply(2, 1.2, due=1.1, status=503),
        reply(3, 3.0, due=1.5, status=GAVE_UP),
    ]
    seen = opened(replies, 0.0, 2.0, deadline=2.0)
    assert (seen.offered, seen.good, seen.refused, seen.late) == (2.0, 0.5, 0.5, 1.0)


def test_the_waste_of_a_batch_is_what_its_rows_waited() -> None:
    costs: dict[str, object] = {"rows": 2, "steps": 10, "padding": 0, "prompt_tokens": 5, "prefill_seconds": 1.0, "seconds": 3.0}
    seen = waste([reply(0, 1.0, fields=costs | {"tokens": 10}), reply(1, 1.0, fields=costs | {"tokens": 5})])
    assert seen.decode_rows == pytest.approx(0.25)
    assert seen.decode_time == pytest.approx(0.5 / 3.0)
    assert seen.best_ratio == pytest.approx(3.0 / 2.5)
    assert seen.batch_rows == 2


def test_texts_are_compared_by_request() -> None:
    ours = [reply(0, 1.0, fields={"text": "a"}), reply(1, 1.0, fields={"text": "b"}), reply(2, 1.0, fields={"text": "c"})]
    theirs = [reply(2, 1.0, fields={"text": "c"}), reply(1, 1.0, fields={"text": "x"}), reply(7, 1.0, fields={"text": "y"})]
    assert same_texts(ours, theirs) == (1, 2)

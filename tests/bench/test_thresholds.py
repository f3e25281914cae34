import pytest

from service.bench.figures import Load, measured
from service.bench.load_generator import Reply
from service.bench.thresholds import Thresholds


def load(answered: int = 99, failed: int = 1, latency: float = 0.1) -> Load:
    replies = [Reply(0, 200, 2.0, 2.0 + latency, {}) for _ in range(answered)]
    return measured([*replies, *(Reply(0, 503, 2.0, 2.0, {}) for _ in range(failed))], 10.0, 10.0)


@pytest.mark.parametrize(
    ("thresholds", "seen", "words"),
    [
        (Thresholds(), load(), []),
        (Thresholds(p99=100.0, errors=0.01), load(), []),
        (Thresholds(errors=0.009), load(), ["1.0% were refused or failed"]),
        (Thresholds(errors=0.0), load(failed=0), []),
        (Thresholds(p99=99.0), load(), ["the p99 is 100 ms, and at most 99 ms"]),
        (Thresholds(p99=99.0, errors=0.0), load(), ["refused", "p99"]),
        (Thresholds(), load(answered=0), ["nothing was answered"]),
    ],
)
def test_what_does_not_hold_is_told(thresholds: Thresholds, seen: Load, words: list[str]) -> None:
    told = list(thresholds.broken_by([seen]))
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))


def test_a_load_without_any_answer_has_no_good_p99() -> None:
    told = list(Thresholds(p99=99.0).broken_by([load(), load(answered=0)]))
    assert ["no p99" in line for line in told] == [False, True]


def test_a_load_at_which_nothing_was_sent_passes_nothing() -> None:
    seen = [load(), measured([], 0.01, 10.0)]
    assert list(Thresholds().broken_by(seen)) == []
    for thresholds in (Thresholds(p99=1000.0), Thresholds(errors=1.0)):
        (told,) = thresholds.broken_by(seen)
        assert "at 0.01/s nothing was due" in told


def test_no_load_at_all_passes_nothing() -> None:
    assert list(Thresholds().broken_by([])) == ["nothing was answered"]

"""What a run of locust must hold; checked when it ends, and told by its exit status."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Importing locust changes Python's own modules.
    from locust.stats import RequestStats

REFUSED = "the server takes no more for now"
"""What users call a failure that is no more than that. A connection that is refused is another thing."""

OTHERS = "*"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Generous: a busy machine passes them, a server that fails, hangs or does nothing does not.

    ``entries``: what must have been asked at all, by its name. ``requests``: of all together, at least. ``failures``, ``refusals``: shares
    of all, at most. ``p95``: milliseconds at most by an entry's name; ``OTHERS`` for those that are not named.
    """

    entries: tuple[str, ...]
    requests: int = 8
    failures: float = 0.0
    refusals: float = 0.05
    p95: Mapping[str, float] = field(default_factory=lambda: {OTHERS: 15_000.0})

    def broken_by(self, stats: "RequestStats") -> Iterator[str]:
        """In words, all that does not hold."""
        total, named = stats.total.num_requests, {entry.name: entry for entry in stats.entries.values() if entry.num_requests}
        if total < self.requests:
            yield f"{total} requests were sent, and at least {self.requests} are needed"
        if missing := [name for name in self.entries if name not in named]:
            yield f"nothing was asked of: {', '.join(missing)}"
        refused = sum(each.occurrences for each in stats.errors.values() if REFUSED in str(each.error))
        others = stats.total.num_failures - refused
        for count, what, most in ((others, "failed", self.failures), (refused, "were refused", self.refusals)):
            if count > most * total:
                yield f"{count} of {total} {what}, and at most {most:.1%} may"
        for name, entry in named.items():
            seen, allowed = entry.get_response_time_percentile(0.95), self.p95.get(name, self.p95[OTHERS])
            if seen > allowed:
                yield f"{name}: the p95 is {seen:.0f} ms, and at most {allowed:.0f} ms are allowed"


def check(stats: "RequestStats", user_classes: Iterable[type[Any]], exceptions: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """All that does not hold of the thresholds of all these users, each once. ``exceptions``: of users, which stand in no statistics."""
    failed = [f"a user failed {each['count']} times: {each['msg']}" for each in exceptions]
    return [*dict.fromkeys(line for each in user_classes for line in each.thresholds.broken_by(stats)), *failed]

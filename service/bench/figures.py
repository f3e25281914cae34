"""From replies to figures."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.bench.http_connection import BROKEN
from service.bench.load_generator import GAVE_UP, Reply

SETTLING = 0.1
"""The part of each load that is not measured: a queue has to fill first."""

REFUSALS = frozenset({429, 503})
"""The server says at once that it will not answer now."""

WAITED = frozenset({200, 504, GAVE_UP})
"""Whose wait counts: an answer, or none within the time."""

TOLD = {GAVE_UP: "no answer in time", BROKEN: "connection failed"}


@dataclass(frozen=True, slots=True)
class Load:
    """What one open loop got, without its first part. Rates are per second, times in milliseconds; None where nobody was so far.

    ``rate`` was asked for; ``seconds`` were measured; ``sent`` were due in that time, and each was ``answered``, ``refused`` or ``failed``.
    ``goodput``: answers that came in that time, by the second. Latencies are those of the answered, and of those that were given up, as
    long as these waited. ``first``: from when a request was due until its stream's first piece; ``between``: its other tokens' mean time.
    ``client_late_p99``: how late the client sent. ``failures``: how many, by what was heard.
    """

    rate: float
    seconds: float
    sent: int
    answered: int
    refused: int
    failed: int
    offered: float
    goodput: float
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    first_p50: float | None
    first_p99: float | None
    between_p50: float | None
    between_p99: float | None
    tokens_rate: float
    client_late_p99: float | None
    failures: dict[str, int]

    @property
    def errors(self) -> float:
        """Share of those sent that were not answered, 0..1."""
        return (self.refused + self.failed) / self.sent if self.sent else 0.0


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed; nan where there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def measured(replies: Sequence[Reply], rate: float, seconds: float) -> Load:
    """Of an open loop of so many ``seconds``, or of what was heard until it was ended."""
    began = SETTLING * seconds
    window = [each for each in replies if began <= each.due < seconds]
    answered = [each for each in window if each.status == 200]
    latencies = [each.latency for each in window if each.status in WAITED]
    refused = sum(each.status in REFUSALS for each in window)
    came = [each for each in replies if each.status == 200 and began <= each.ended < seconds]
    streamed = [each for each in answered if not math.isnan(each.first)]
    first = [each.first - each.due for each in streamed]
    between = [(each.ended - each.first) / (tokens - 1) for each in streamed if (tokens := written_tokens(each)) > 1]
    failures = Counter(TOLD.get(each.status, str(each.status)) for each in window if each.status != 200 and each.status not in REFUSALS)
    return Load(
        rate=rate,
        seconds=seconds - began,
        sent=len(window),
        answered=len(answered),
        refused=refused,
        failed=len(window) - len(answered) - refused,
        offered=len(window) / (seconds - began),
        goodput=len(came) / (seconds - began),
        p50=_milliseconds(latencies, 0.5),
        p90=_milliseconds(latencies, 0.9),
        p99=_milliseconds(latencies, 0.99),
        max=_milliseconds(latencies, 1.0),
        first_p50=_milliseconds(first, 0.5),
        first_p99=_milliseconds(first, 0.99),
        between_p50=_milliseconds(between, 0.5),
        between_p99=_milliseconds(between, 0.99),
        tokens_rate=sum(map(written_tokens, came)) / (seconds - began),
        client_late_p99=_milliseconds((each.late for each in window), 0.99),
        failures=dict(failures),
    )


def capacity(replies: Sequence[Reply], ramp: int, longest: float) -> float:
    """Answers a second of a closed loop, from the end of its ramp on, until its time was over; 0 where there were too few."""
    answered = [each.ended for each in replies[ramp - 1 :] if each.status == 200]
    # Those who were in flight when the time was over had ever fewer beside them.
    inside = [moment for moment in answered if moment <= longest] or answered
    return (len(inside) - 1) / (inside[-1] - inside[0]) if len(inside) > 1 and inside[-1] > inside[0] else 0.0


def written_tokens(reply: Reply) -> int:
    """Tokens of an answer, by whoever gave it."""
    usage = reply.fields.get("usage")
    return int(usage["completion_tokens"] if isinstance(usage, dict) else reply.fields.get("tokens", 0))


def _milliseconds(values: Iterable[float], share: float) -> float | None:
    found = percentile(values, share)
    return None if math.isnan(found) else round(1000 * found, 3)

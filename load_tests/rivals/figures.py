"""From replies to figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from service.bench.figures import percentile, written_tokens
from service.bench.http_connection import BROKEN
from service.bench.load_generator import Reply

PHASES = ("queue", "preprocess", "vision", "prefill", "decode", "total")

AT_ONE_MOMENT = 0.03
"""Seconds between two replies of one batch at most."""

MOST_ROWS = 15
"""Replies that may follow a batch's first."""


@dataclass(frozen=True, slots=True)
class Closed:
    """One closed loop: rates per second, seconds, and how many replies were no answers."""

    rate: float
    tokens_rate: float
    p50: float
    p95: float
    seconds: float
    measured: int
    failed: int


@dataclass(frozen=True, slots=True)
class Open:
    """One open loop. ``good``: answers in time per second; refusals are 503; ``late`` were given up or ran out of their time."""

    offered: float
    good: float
    p50: float
    p95: float
    refused: float
    refused_p50: float
    refused_p95: float
    late: float
    broken: int


@dataclass(frozen=True, slots=True)
class Waste:
    """What batches lose. Shares of 1; ``best_ratio`` is how many times the rate would be if no decode row were wasted."""

    decode_rows: float
    prompt_padding: float
    decode_time: float
    best_ratio: float
    batch_rows: float


def closed(replies: Sequence[Reply], ramp: int, count: int) -> Closed:
    """The ``count`` replies after the ``ramp``, each limit moved to the end of its batch. With no ramp the time runs from the start."""
    first = _end_of_batch(replies, ramp) if ramp else 0
    began = replies[first - 1].ended if first else 0.0
    window = replies[first : _end_of_batch(replies, min(ramp + count, len(replies)))]
    seconds = window[-1].ended - began
    answered = [reply for reply in window if reply.status == 200]
    latencies = [reply.latency for reply in answered]
    return Closed(
        rate=len(answered) / seconds,
        tokens_rate=sum(written_tokens(reply) for reply in answered) / seconds,
        p50=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        seconds=seconds,
        measured=len(window),
        failed=len(window) - len(answered),
    )


def _end_of_batch(replies: Sequence[Reply], index: int) -> int:
    """Replies that come at one moment are one batch's: part of a batch must not be counted without its time."""
    for following in range(index, min(index + MOST_ROWS, len(replies))):
        if replies[following].ended - replies[following - 1].ended > AT_ONE_MOMENT:
            return following
    return min(index + MOST_ROWS, len(replies))


def opened(replies: Sequence[Reply], begin: float, end: float, deadline: float) -> Open:
    """Of the requests that were sent between ``begin`` and ``end`` seconds."""
    window = [reply for reply in replies if begin <= reply.due < end]
    good = [reply.latency for reply in window if reply.status == 200 and reply.latency <= deadline]
    refused = [reply.latency for reply in window if reply.status == 503]
    broken = sum(reply.status == BROKEN for reply in window)
    seconds = end - begin
    return Open(
        offered=len(window) / seconds,
        good=len(good) / seconds,
        p50=percentile(good, 0.5),
        p95=percentile(good, 0.95),
        refused=len(refused) / seconds,
        refused_p50=percentile(refused, 0.5),
        refused_p95=percentile(refused, 0.95),
        late=(len(window) - len(good) - len(refused) - broken) / seconds,
        broken=broken,
    )


def waste(replies: Iterable[Reply]) -> Waste:
    """Counted from the batches that LitServe really made: each of its replies names its batch's steps, and its own tokens."""
    answers = [reply.fields for reply in replies if reply.status == 200]
    steps = sum(each["steps"] for each in answers)
    tokens = sum(each["tokens"] for each in answers)
    prompts = sum(each["prompt_tokens"] for each in answers)
    padding = sum(each["padding"] for each in answers)
    # A batch is named by each of its rows: a row's part of the batch's time is a row's share.
    time = sum(each["seconds"] / each["rows"] for each in answers)
    prefill = sum(each["prefill_seconds"] / each["rows"] for each in answers)
    useful = sum((each["seconds"] - each["prefill_seconds"]) / each["rows"] * each["tokens"] / each["steps"] for each in answers)
    return Waste(
        decode_rows=1 - tokens / steps,
        prompt_padding=padding / (prompts + padding),
        decode_time=(time - prefill - useful) / time,
        best_ratio=time / (prefill + useful),
        batch_rows=len(answers) / sum(1 / each["rows"] for each in answers),
    )


def phases(replies: Iterable[Reply]) -> dict[str, dict[str, float]]:
    """Where PaliServe says its time goes: median milliseconds of each phase by task, and of the whole as the client saw it."""
    by_task: dict[str, list[Reply]] = {}
    for reply in replies:
        if reply.status == 200 and "timings_ms" in reply.fields:
            by_task.setdefault(reply.fields["task"], []).append(reply)
    found = {}
    for task, answers in sorted(by_task.items()):
        found[task] = {phase: round(median(each.fields["timings_ms"][phase] for each in answers), 1) for phase in PHASES}
        found[task]["client"] = round(1000 * median(each.latency for each in answers), 1)
    return found


def same_texts(one: Sequence[Reply], other: Sequence[Reply]) -> tuple[int, int]:
    """How many texts are equal, of those requests that both answered."""
    texts = {reply.index: reply.fields["text"] for reply in one if reply.status == 200}
    pairs = [(texts[reply.index], reply.fields["text"]) for reply in other if reply.status == 200 and reply.index in texts]
    return sum(left == right for left, right in pairs), len(pairs)

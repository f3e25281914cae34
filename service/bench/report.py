"""Figures as a table, in words, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from service.bench.benchmark import Outcome
from service.bench.figures import Load
from service.machine import description

PACKAGES = ("paliserve", "grpcio", "numpy", "pillow")

LATE = 20.0
"""Milliseconds. A client that sends later than that is part of what it measures."""


def rows(outcome: Outcome, streamed: bool) -> list[tuple[str, ...]]:
    """The head, and a line for each load: rates a second, times in milliseconds."""
    head = ["LOAD"] if outcome.capacity else []
    head += "OFFERED/S ANSWERED/S SENT ANSWERED REFUSED FAILED P50 P90 P99 MAX".split()
    head += ["FIRST P50", "FIRST P99", "BETWEEN P50", "BETWEEN P99"] if streamed else []
    return [(*head, "TOKENS/S"), *(_row(load, outcome.capacity, streamed) for load in outcome.loads)]


def remarks(outcome: Outcome, seconds: float) -> list[str]:
    """What has to be said beside the table."""
    said = [
        "Open loop, arrivals at random; milliseconds, from the moment at which a request was due, so that no waiting is hidden "
        "(coordinated omission). The first tenth of each load is not measured."
    ]
    if outcome.capacity:
        said.insert(0, f"Capacity: {outcome.capacity:.1f} answers a second, by a closed loop of {seconds:g} s.")
    for load in outcome.loads:
        if load.failures:
            heard = ", ".join(f"{count} × {what}" for what, count in sorted(load.failures.items()))
            said.append(f"Failed at {load.rate:.3g}/s: {heard}.")
    late = max((load.client_late_p99 or 0.0 for load in outcome.loads), default=0.0)
    if late > LATE:
        said.append(f"This client itself sent up to {late:.0f} ms late (p99): it needs a processor of its own to measure so much.")
    if outcome.interrupted:
        said.append("Ended early: the last load is not whole.")
    return said


def document(outcome: Outcome, arguments: dict[str, Any], address: str) -> dict[str, Any]:
    """All figures, with what made them. None where there is none."""
    about = {"machine": description(PACKAGES), "server": {"address": address, "models": outcome.models}, "arguments": arguments}
    return about | {"capacity": outcome.capacity, "interrupted": outcome.interrupted, "loads": _loads(outcome)}


def _loads(outcome: Outcome) -> list[dict[str, Any]]:
    return [asdict(load) | {"load": load.rate / outcome.capacity if outcome.capacity else None} for load in outcome.loads]


def _row(load: Load, capacity: float | None, streamed: bool) -> tuple[str, ...]:
    first: Sequence[str] = [f"{load.rate / capacity:.2f} ×"] if capacity else []
    counts = (f"{load.offered:.1f}", f"{load.goodput:.1f}", f"{load.sent}", f"{load.answered}", f"{load.refused}", f"{load.failed}")
    times = [load.p50, load.p90, load.p99, load.max]
    times += [load.first_p50, load.first_p99, load.between_p50, load.between_p99] if streamed else []
    return (*first, *counts, *map(_told, times), f"{load.tokens_rate:.0f}")


def _told(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"

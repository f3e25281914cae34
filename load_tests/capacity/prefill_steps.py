"""What the bound on a prefill step's tokens does: throughput, latency, and how long those who write must pause."""

from dataclasses import dataclass, replace

from load_tests.capacity.fleets import capacity, point
from load_tests.capacity.workload import h100, kinds

BOUNDS = (2048, 2304, 4096, 8192)
LOAD = 0.7


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound. ``pause``: seconds of a full prefill with its pictures. ``p50``, ``p95`` at ``LOAD`` of its capacity."""

    side: int
    tokens: int
    capacity: float
    prompts: int
    pause: float
    p50: float
    p95: float


def bound(side: int, tokens: int) -> Bound:
    """One replica with prefill steps of at most so many tokens."""
    times, wanted = h100(side), kinds(side)
    name, instance = next(iter(times.instances.items()))
    times = replace(times, instances={name: replace(instance, prefill_tokens=tokens)})
    each = instance.image_tokens + wanted[0].prompts[0]
    prompts = max(1, tokens // each)
    most = capacity(times, wanted)
    seen = point(times, wanted, 1, LOAD, most)
    pause = instance.vision.of(prompts) + instance.prefill.of(prompts * each)
    return Bound(side, tokens, most, prompts, pause, seen.p50, seen.p95)

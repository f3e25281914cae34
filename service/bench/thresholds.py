"""What the figures must hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.bench.figures import Load


@dataclass(frozen=True, slots=True)
class Thresholds:
    """For every load. ``p99`` in milliseconds; ``errors``: the share that is refused or fails, 0..1. None: whatever it is."""

    p99: float | None = None
    errors: float | None = None

    def broken_by(self, loads: Sequence[Load]) -> Iterator[str]:
        """In words, each load that does not hold them. What was never answered holds none."""
        if not any(load.answered for load in loads):
            yield "nothing was answered"
            return
        for load in loads:
            if not load.sent and (self.errors, self.p99) != (None, None):
                yield f"at {load.rate:.3g}/s nothing was due while it was measured: it needs a longer --duration"
            if self.errors is not None and load.errors > self.errors:
                yield f"at {load.rate:.3g}/s {load.errors:.1%} were refused or failed, and at most {self.errors:.1%} may"
            if self.p99 is not None and load.sent and (load.p99 is None or load.p99 > self.p99):
                seen = "there is no p99, as nothing was answered" if load.p99 is None else f"the p99 is {load.p99:.0f} ms"
                yield f"at {load.rate:.3g}/s {seen}, and at most {self.p99:g} ms are allowed"

"""What a benchmark is to do."""

from dataclasses import dataclass

TASKS = ("caption", "answer", "detect", "segment", "read", "caption-region", "generate")
PARTS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1)
"""Of the capacity, which is found where nobody gives any rates."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``rates`` a second; none: ``PARTS`` of the capacity. ``seconds`` and ``timeout`` of each load. ``concurrent``: to find the capacity.

    ``cached``: a picture is sent as it is, and not each time in a file of its own.
    """

    rates: tuple[float, ...]
    seconds: float
    timeout: float
    concurrent: int
    seed: int
    cached: bool

    @property
    def whole(self) -> float:
        """Seconds that all takes, if the server keeps up."""
        return self.seconds * (len(self.rates) or 1 + len(PARTS))

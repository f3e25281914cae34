"""A generation on its way through the engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from service.engine.generation import Generated, Generation, StageTimes
from service.errors import PaliServeError

TokenListener = Callable[[int, float], None]
"""Takes a token and the probability that the model gave it. Called on the event loop, once for each token, in order."""


class Phase(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Request:
    """One generation, its tokens so far, and when things happened to it (seconds on the engine's clock).

    ``told`` counts the tokens that its listener was told, or is about to be.
    """

    generation: Generation
    arrived: float
    listener: TokenListener | None = None
    told: int = 0
    phase: Phase = Phase.WAITING
    cancelled: bool = False
    tokens: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    started: float | None = None
    first_token: float = 0.0
    vision: float = 0.0
    outcome: Generated | PaliServeError | None = None

    def news(self) -> list[tuple[int, float]]:
        """Each token chosen since the last call, with its probability."""
        since, self.told = self.told, len(self.tokens)
        return list(zip(self.tokens[since:], self.probabilities[since:], strict=True))

    def times(self, now: float) -> StageTimes:
        """Seconds per stage of a request that has run and ends ``now``."""
        started = self.arrived if self.started is None else self.started
        return StageTimes(
            queue=started - self.arrived,
            vision=self.vision,
            prefill=self.first_token - started - self.vision,
            decode=now - self.first_token,
        )

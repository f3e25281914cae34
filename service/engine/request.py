"""A generation on its way through the engine."""

from dataclasses import dataclass, field
from enum import StrEnum

from service.engine.device import Outcome
from service.engine.generation import Generation, StageTimes


class Phase(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Request:
    """One generation, its tokens so far, and when things happened to it (seconds on the engine's clock)."""

    generation: Generation
    arrived: float
    number: int = 0
    streamed: bool = False
    caller: str = ""
    phase: Phase = Phase.WAITING
    cancelled: bool = False
    tokens: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    started: float | None = None
    first_token: float = 0.0
    vision: float = 0.0
    outcome: Outcome = None

    def times(self, now: float) -> StageTimes:
        """Seconds per stage of a request that has run and ends ``now``."""
        started = self.arrived if self.started is None else self.started
        return StageTimes(
            queue=started - self.arrived,
            vision=self.vision,
            prefill=self.first_token - started - self.vision,
            decode=now - self.first_token,
        )

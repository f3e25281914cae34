"""Who hears of an engine's work."""

from typing import Protocol

ANSWERED, FAILED, CANCELLED = ENDS = ("answered", "failed", "cancelled")
"""How a generation ends: with tokens, with an error, or because its caller left."""


class EngineObserver(Protocol):
    """Hears of an instance's work, on the event loop.

    How many requests wait and run and how many prompt and image tokens wait, whenever that changes; of every batch its phase ("vision",
    "prefill" or "decode") and its rows; and why a request was refused ("queue_full" or "too_late"). Whoever gets a place is accepted, and
    ends once, with one of ``ENDS``: those who were accepted are those who ended, wait or run.
    """

    def queue_changed(self, instance: str, waiting: int, running: int, tokens: int) -> None: ...

    def batch_ran(self, instance: str, phase: str, size: int) -> None: ...

    def request_refused(self, reason: str) -> None: ...

    def generation_accepted(self, instance: str) -> None: ...

    def generation_ended(self, instance: str, end: str) -> None: ...

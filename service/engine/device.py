"""Where generations run: the interface between an engine, on the event loop, and the device's thread or processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from service.engine.generation import Generated, Generation
from service.engine.runner import ModelRunner
from service.errors import PaliServeError


@dataclass(frozen=True, slots=True)
class RunnerFacts:
    """What a loaded runner is: see ``ModelRunner``."""

    slots: int
    image_tokens: int
    feature_bytes: int
    end_tokens: frozenset[int]
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A generation with the number its engine gave it. ``arrived`` is in seconds on the engine's clock.

    Where ``streamed``, every token is reported as it is chosen, not only the whole at the end. ``caller``: on whose behalf. ``again``: the
    process that it was given to first ended before it began.
    """

    number: int
    generation: Generation
    arrived: float
    streamed: bool = False
    caller: str = ""
    again: bool = False


Outcome = Generated | PaliServeError | None
"""How a generation ended; None where it was cancelled."""


@dataclass(slots=True)
class Report:
    """What happened since the last report: the numbers of who began, tokens with their probabilities, who ended how, which batches ran."""

    started: list[int] = field(default_factory=list)
    chosen: list[tuple[int, int, float]] = field(default_factory=list)
    ended: list[tuple[int, Outcome]] = field(default_factory=list)
    batches: list[tuple[str, int]] = field(default_factory=list)

    @property
    def is_news(self) -> bool:
        """Whether somebody waits for it: batches alone can wait for the next one."""
        return bool(self.started or self.chosen or self.ended)


Deliver = Callable[[Report], None]
"""Takes a report, on some thread of the device's."""

MakeRunner = Callable[[Callable[[], int]], ModelRunner]
"""Loads a runner. Its argument tells how many threads the runner may use at the moment. Can be pickled where it goes to a process."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a device is doing. ``step_age``: seconds that its longest running step has taken until now; 0 where none runs.

    ``memory``: bytes used of an accelerator's, by whomever, and all that it has; None for a CPU. ``resident``: bytes of main memory that
    each of its worker processes holds.
    """

    step_age: float
    memory: tuple[int, int] | None
    resident: tuple[int, ...] = ()


class Device(Protocol):
    """Runs the generations of all its instances.

    ``submit``, ``cancel``, ``is_ready``, ``is_alive``, ``rescue`` and ``vitals`` are quick, and safe from any thread; the rest blocks.
    """

    copies: int
    """How often an instance's features may be held at once."""

    def start(self) -> None:
        """Begin to work."""
        ...

    def stop(self) -> None:
        """Finish all work that was accepted, then end."""
        ...

    def is_ready(self) -> bool:
        """Whether anybody is there who would work on a submission."""
        ...

    def is_alive(self, patience: float) -> bool:
        """Whether it works, and no step has been running for ``patience`` seconds, nor one that was given up for that not made good.

        What ended is being replaced meanwhile, which has its end too.
        """
        ...

    def rescue(self, patience: float) -> bool:
        """Give up the steps that have been running for ``patience`` seconds: kill their processes, fail their requests, start others.

        False where a step hangs that cannot be ended: its device is not ready, and its requests are their engines' to fail.
        """
        ...

    def vitals(self) -> Vitals:
        """How it is doing at this moment; memory may be as of a second ago."""
        ...

    def load(self, instance: str, make: MakeRunner, prefill_tokens: int, deliver: Deliver) -> RunnerFacts:
        """Let an instance take its turns; its reports go to ``deliver``. Errors: those of ``make``."""
        ...

    def unload(self, instance: str) -> None:
        """Give back what an instance takes. Nothing of it may be waiting or running."""
        ...

    def adopt(self, instance: str, place: int, folder: str) -> None:
        """Put an adapter to a place of an instance's, counted from 1. Errors: OperatorError where it does not fit the model."""
        ...

    def abandon(self, instance: str, place: int) -> None:
        """Empty a place. No generation that asks for it may be waiting or running."""
        ...

    def submit(self, instance: str, submission: Submission) -> None:
        """Queue a generation. Its end is reported, whatever happens; that it begins, before it does."""
        ...

    def cancel(self, instance: str, number: int) -> None:
        """Take a generation from the queue or out of its slot before the next step; it ends as None."""
        ...

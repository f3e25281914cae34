"""One worker process, seen from its parent; and which of several is given a request."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import TypeVar

from service.engine.device import Report, RunnerFacts, Submission
from service.engine.generation import Picture
from service.engine.worker import Cancel, Changed, Forget, Loaded, Submit, ToWorker, Unloaded
from service.errors import OperatorError

AFFINITY = 2
"""A worker that has encoded a request's picture is preferred until it has so many requests more than the least busy one."""

Key = tuple[str, int]
"""A generation: its instance, and its number there."""

Work = tuple[str, Submission]
"""A generation, with its instance."""

Answer = TypeVar("Answer", Loaded, Unloaded, Changed)


@dataclass(slots=True, eq=False, weakref_slot=True)
class WorkerLink:
    """The process and its pipe, what goes out and what came back, and what it works on.

    ``running``: what it was given and has not ended; ``begun`` and ``cancelled``: those of them that have begun, and that nobody waits for.
    ``pictures``: the numbers of those it knows.
    ``mark``: when its running step began (0: none runs) as the watch saw it last, and since when it has seen just that; None
    before its first look.
    ``is_gone``: it works on nothing any more; ``hangs``: because a step did not end.
    None in a queue of answers: the process is gone, and no other answer comes.
    """

    seat: int
    process: BaseProcess
    pipe: Connection
    outbox: SimpleQueue[ToWorker | None] = field(default_factory=SimpleQueue)
    loading: SimpleQueue[Loaded | None] = field(default_factory=SimpleQueue)
    unloading: SimpleQueue[Unloaded | None] = field(default_factory=SimpleQueue)
    changing: SimpleQueue[Changed | None] = field(default_factory=SimpleQueue)
    running: dict[Key, Submission] = field(default_factory=dict)
    begun: set[Key] = field(default_factory=set)
    cancelled: set[Key] = field(default_factory=set)
    pictures: set[int] = field(default_factory=set)
    mark: tuple[float, float] | None = None
    is_ready: bool = False
    is_gone: bool = False
    hangs: bool = False

    def send(self) -> None:
        """A pipe that is full makes its writer wait: here, where nobody else waits for it."""
        while (message := self.outbox.get()) is not None:
            try:
                self.pipe.send(message)
            except OSError:
                return

    def give(self, instance: str, submission: Submission, numbers: Iterator[int]) -> None:
        """Let it work on a generation."""
        self.running[instance, submission.number] = submission
        self.outbox.put(Submit(instance, self.as_sent(submission, numbers)))

    def unmoved(self, began: float, now: float) -> float:
        """Seconds for which it has had work and neither begun nor ended a step. ``began``: when its running step did."""
        if self.mark is None or not self.running or began != self.mark[0]:
            self.mark = began, now
        return now - self.mark[1]

    def heard(self, instance: str, report: Report) -> None:
        """What it works on, after a report."""
        self.begun.update((instance, number) for number in report.started)
        for number, _ in report.ended:
            self.running.pop((instance, number), None)
            self.begun.discard((instance, number))
            self.cancelled.discard((instance, number))

    def cancel(self, instance: str, number: int) -> None:
        """Let it drop a generation, if it has it."""
        if (instance, number) in self.running:
            self.cancelled.add((instance, number))
            self.outbox.put(Cancel(instance, number))

    def answered(self, message: Loaded | Unloaded | Changed) -> None:
        """Pass an answer to who waits for it."""
        match message:
            case Loaded():
                self.loading.put(message)
            case Unloaded():
                self.unloading.put(message)
            case Changed():
                self.changing.put(message)

    def take_back(self) -> tuple[list[Work], list[Work]]:
        """What it has not ended, as nothing is given to it any more: what ends with it, and what is to be given to another.

        The former may be at fault, or nobody waits for it: its instance may even be on its way out.
        """
        ending: list[Work] = []
        untouched: list[Work] = []
        for key, submission in self.running.items():
            ends = key in self.begun or key in self.cancelled or submission.again
            (ending if ends else untouched).append((key[0], submission))
        self.running.clear()
        self.is_ready, self.is_gone = False, True
        return ending, untouched

    def as_sent(self, submission: Submission, numbers: Iterator[int]) -> Submission:
        """The same with the pixels of those pictures only that the worker does not know yet; ``numbers`` names those without a number."""
        sent = []
        for picture in submission.generation.prompt.pictures:
            picture.number = picture.number or next(numbers)
            if picture.number in self.pictures:
                sent.append(replace(picture, pixels=None))
            else:
                self.pictures.add(picture.number)
                # A picture may be kept for ever: who is replaced, with its pipe and its process, must not be.
                weakref.finalize(picture, _forget, weakref.ref(self), picture.number).atexit = False
                sent.append(picture)
        generation = submission.generation
        return replace(submission, generation=replace(generation, prompt=replace(generation.prompt, pictures=tuple(sent))))

    def loaded(self) -> RunnerFacts | OperatorError:
        """Wait for the answer to a ``Load``."""
        answer = _next(self.loading)
        return answer.facts if answer else OperatorError("A worker process ended while it loaded; the log may say why.")

    def unloaded(self) -> None:
        """Wait for the answer to an ``Unload``."""
        _next(self.unloading)

    def changed(self) -> OperatorError | None:
        """Wait for the answer to an ``Adopt`` or ``Abandon``: what hindered it."""
        answer = _next(self.changing)
        return answer.error if answer else OperatorError("A worker process ended meanwhile; the log may say why.")

    def give_up(self) -> None:
        """Whoever waits for this worker, or comes to, is told that no answer can come any more."""
        for answers in (self.loading, self.unloading, self.changing):
            answers.put(None)


def least_busy(workers: Sequence[WorkerLink], pictures: Sequence[Picture]) -> WorkerLink | None:
    """The least busy worker, or one that knows the pictures and is not much busier; None where none is ready."""
    ready = [worker for worker in workers if worker.is_ready]
    if not ready:
        return None
    least = min(ready, key=lambda worker: len(worker.running))
    numbers = {picture.number for picture in pictures}
    known = [each for each in ready if numbers <= each.pictures and len(each.running) <= len(least.running) + AFFINITY]
    return min(known, key=lambda worker: len(worker.running), default=least)


def _forget(worker: "weakref.ref[WorkerLink]", picture: int) -> None:
    if (link := worker()) is not None:
        link.pictures.discard(picture)
        link.outbox.put(Forget(picture))


def _next(answers: "SimpleQueue[Answer | None]") -> "Answer | None":
    answer = answers.get()
    if answer is None:
        # For the next one who asks.
        answers.put(None)
    return answer

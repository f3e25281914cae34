"""One worker process, seen from its parent."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import TypeVar

from service.engine.device import RunnerFacts, Submission
from service.engine.worker import Changed, Forget, Loaded, ToWorker, Unloaded
from service.errors import OperatorError

Answer = TypeVar("Answer", Loaded, Unloaded, Changed)


@dataclass(slots=True, eq=False)
class WorkerLink:
    """The process and its pipe, what goes out and what came back, and what it works on. ``pictures``: the numbers of those it knows.

    None in a queue of answers: the process is gone, and no other answer comes.
    """

    seat: int
    process: BaseProcess
    pipe: Connection
    outbox: SimpleQueue[ToWorker | None] = field(default_factory=SimpleQueue)
    loading: SimpleQueue[Loaded | None] = field(default_factory=SimpleQueue)
    unloading: SimpleQueue[Unloaded | None] = field(default_factory=SimpleQueue)
    changing: SimpleQueue[Changed | None] = field(default_factory=SimpleQueue)
    running: set[tuple[str, int]] = field(default_factory=set)
    pictures: set[int] = field(default_factory=set)
    is_ready: bool = False

    def send(self) -> None:
        """A pipe that is full makes its writer wait: here, where nobody else waits for it."""
        while (message := self.outbox.get()) is not None:
            try:
                self.pipe.send(message)
            except OSError:
                return

    def as_sent(self, submission: Submission, numbers: Iterator[int]) -> Submission:
        """The same with the pixels of those pictures only that the worker does not know yet; ``numbers`` names those without a number."""
        sent = []
        for picture in submission.generation.prompt.pictures:
            picture.number = picture.number or next(numbers)
            if picture.number in self.pictures:
                sent.append(replace(picture, pixels=None))
            else:
                self.pictures.add(picture.number)
                weakref.finalize(picture, self._forget, picture.number).atexit = False
                sent.append(picture)
        generation = submission.generation
        return replace(submission, generation=replace(generation, prompt=replace(generation.prompt, pictures=tuple(sent))))

    def _forget(self, picture: int) -> None:
        self.pictures.discard(picture)
        self.outbox.put(Forget(picture))

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


def _next(answers: "SimpleQueue[Answer | None]") -> "Answer | None":
    answer = answers.get()
    if answer is None:
        # For the next one who asks.
        answers.put(None)
    return answer

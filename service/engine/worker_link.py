"""One worker process, seen from its parent."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from service.engine.device import Submission
from service.engine.worker import Changed, Forget, Loaded, ToWorker, Unloaded
from service.errors import OperatorError


@dataclass(slots=True, eq=False)
class WorkerLink:
    """The process and its pipe, what goes out and what came back, and what it works on. ``pictures``: the numbers of those it knows."""

    seat: int
    process: BaseProcess
    pipe: Connection
    outbox: SimpleQueue[ToWorker | None] = field(default_factory=SimpleQueue)
    loading: SimpleQueue[Loaded] = field(default_factory=SimpleQueue)
    unloading: SimpleQueue[Unloaded] = field(default_factory=SimpleQueue)
    changing: SimpleQueue[Changed] = field(default_factory=SimpleQueue)
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

    def give_up(self) -> None:
        """Whoever waits for this worker, or comes to, is told: no answer can come any more."""
        self.loading.put(Loaded("", OperatorError("A worker process ended while it loaded; the log may say why.")))
        self.unloading.put(Unloaded(""))
        self.changing.put(Changed(OperatorError("A worker process ended meanwhile; the log may say why.")))

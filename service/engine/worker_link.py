"""One worker process, seen from its parent."""

from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from service.engine.worker import Changed, Loaded, ToWorker, Unloaded
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

    def give_up(self) -> None:
        """Whoever waits for this worker, or comes to, is told: no answer can come any more."""
        self.loading.put(Loaded("", OperatorError("A worker process ended while it loaded; the log may say why.")))
        self.unloading.put(Unloaded(""))
        self.changing.put(Changed(OperatorError("A worker process ended meanwhile; the log may say why.")))

"""A device whose work is done in processes of their own.

Python runs one thread at a time: in the process that reads requests and pictures, a device's thread would wait for its turn again and
again. On a CPU several workers share the requests, each step on a core of its own, because a small matrix product keeps one core busy and
four waiting for one another.
"""

import itertools
import logging
import multiprocessing
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from service.engine.device import Deliver, MakeRunner, Report, RunnerFacts, Submission
from service.engine.generation import Picture
from service.engine.worker import Board, Cancel, Forget, FromWorker, Load, Loaded, Reported, Stop, Submit, ToWorker, Unload, Unloaded, work
from service.errors import GenerationFailed, OperatorError

logger = logging.getLogger(__name__)

AFFINITY = 2
"""A worker that has encoded a request's picture is preferred until it has so many requests more than the least busy one."""


@dataclass(slots=True, eq=False)
class _Worker:
    """One process, seen from its parent."""

    seat: int
    process: BaseProcess
    pipe: Connection
    outbox: SimpleQueue[ToWorker | None] = field(default_factory=SimpleQueue)
    loading: SimpleQueue[Loaded] = field(default_factory=SimpleQueue)
    unloading: SimpleQueue[Unloaded] = field(default_factory=SimpleQueue)
    running: set[tuple[str, int]] = field(default_factory=set)
    pictures: set[int] = field(default_factory=set)
    is_ready: bool = False


class Workers:
    """The ``Device`` over ``count`` processes, which share ``threads`` threads. ``begin`` is called first in each of them.

    ``preload`` names modules that are imported once for all of them. A worker that dies fails its requests and is replaced.
    """

    def __init__(
        self, count: int, threads: int, begin: Callable[[], None], preload: list[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.copies = count
        self._begin = begin
        self._clock = clock
        self._context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        if sys.platform != "win32":
            self._context.set_forkserver_preload(preload)
        self._board = Board(self._context.RawArray("d", count), threads)
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._numbers = itertools.count(1)
        self._loads: dict[str, Load] = {}
        self._deliver: dict[str, Deliver] = {}
        self._stopping = False
        self._broken = False
        self._workers = [self._spawn(seat) for seat in range(count)]

    def start(self) -> None:
        """See ``Device``. The processes run already."""

    def stop(self) -> None:
        """See ``Device``."""
        self._stopping = True
        for worker in self._workers:
            worker.outbox.put(Stop())
        for worker in self._workers:
            worker.process.join()

    def is_alive(self, patience: float) -> bool:
        """See ``Device``."""
        now = self._clock()
        return not self._broken and not any(began and now - began > patience for began in self._board.stepping)

    def load(self, instance: str, make: MakeRunner, prefill_tokens: int, deliver: Deliver) -> RunnerFacts:
        """See ``Device``. The workers load side by side."""
        load = Load(instance, make, prefill_tokens)
        with self._changing:
            self._deliver[instance] = deliver
            workers = list(self._workers)
            for worker in workers:
                worker.outbox.put(load)
            answers = [worker.loading.get().facts for worker in workers]
            for facts in answers:
                if isinstance(facts, OperatorError):
                    # Where it was loaded, it takes room for nothing.
                    self._drop(instance)
                    raise facts
            self._loads[instance] = load
            for worker in workers:
                worker.is_ready = True
        return next(facts for facts in answers if isinstance(facts, RunnerFacts))

    def unload(self, instance: str) -> None:
        """See ``Device``."""
        with self._changing:
            self._loads.pop(instance, None)
            self._drop(instance)

    def _drop(self, instance: str) -> None:
        workers = list(self._workers)
        for worker in workers:
            worker.outbox.put(Unload(instance))
        for worker in workers:
            worker.unloading.get()

    def submit(self, instance: str, submission: Submission) -> None:
        """See ``Device``."""
        picture = submission.generation.prompt.picture
        with self._lock:
            worker = self._choose(picture)
            if worker is None:
                self._fail([(instance, submission.number)])
                return
            worker.running.add((instance, submission.number))
            picture.number = picture.number or next(self._numbers)
            if picture.number in worker.pictures:
                submission = _without_pixels(submission)
            else:
                worker.pictures.add(picture.number)
                weakref.finalize(picture, self._forget, worker, picture.number).atexit = False
            worker.outbox.put(Submit(instance, submission))

    def cancel(self, instance: str, number: int) -> None:
        """See ``Device``."""
        for worker in self._workers:
            if (instance, number) in worker.running:
                worker.outbox.put(Cancel(instance, number))

    def _choose(self, picture: Picture) -> _Worker | None:
        """The least busy worker, or one that knows the picture and is not much busier."""
        ready = [worker for worker in self._workers if worker.is_ready]
        if not ready:
            return None
        least = min(ready, key=lambda worker: len(worker.running))
        known = [each for each in ready if picture.number in each.pictures and len(each.running) <= len(least.running) + AFFINITY]
        return min(known, key=lambda worker: len(worker.running), default=least)

    @staticmethod
    def _forget(worker: _Worker, picture: int) -> None:
        worker.pictures.discard(picture)
        worker.outbox.put(Forget(picture))

    def _spawn(self, seat: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, self._board, seat, self._begin), name=f"worker-{seat}", daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(seat, process, ours)
        threading.Thread(target=self._send, args=(worker,), name=f"to-worker-{seat}", daemon=True).start()
        threading.Thread(target=self._receive, args=(worker,), name=f"from-worker-{seat}", daemon=True).start()
        return worker

    def _loaded(self, worker: _Worker) -> RunnerFacts:
        facts = worker.loading.get().facts
        if isinstance(facts, OperatorError):
            raise facts
        worker.is_ready = True
        return facts

    @staticmethod
    def _send(worker: _Worker) -> None:
        """A pipe that is full makes its writer wait: here, where nobody else waits for it."""
        while (message := worker.outbox.get()) is not None:
            try:
                worker.pipe.send(message)
            except OSError:
                return

    def _receive(self, worker: _Worker) -> None:
        while True:
            try:
                message: FromWorker = worker.pipe.recv()
            except (EOFError, OSError):
                break
            if isinstance(message, Reported):
                with self._lock:
                    worker.running.difference_update((message.instance, number) for number, _ in message.report.ended)
                self._deliver[message.instance](message.report)
            elif isinstance(message, Unloaded):
                worker.unloading.put(message)
            else:
                worker.loading.put(message)
        self._lost(worker)

    def _lost(self, worker: _Worker) -> None:
        """The process is gone: fail its requests, and put another in its place, unless it never came to work."""
        worker.outbox.put(None)
        if self._stopping:
            self._give_up_on(worker)
            return
        worker.process.join()
        logger.error("worker %d ended with exit code %s", worker.seat, worker.process.exitcode)
        with self._lock:
            was_ready, worker.is_ready = worker.is_ready, False
            lost, worker.running = list(worker.running), set()
        self._fail(lost)
        self._board.stepping[worker.seat] = 0.0
        self._broken = self._broken or not was_ready
        self._give_up_on(worker)
        if not was_ready:
            return
        with self._changing:
            successor = self._spawn(worker.seat)
            for load in self._loads.values():
                successor.outbox.put(load)
            with self._lock:
                self._workers[worker.seat] = successor
            try:
                for _ in self._loads:
                    self._loaded(successor)
            except Exception:
                logger.exception("worker %d cannot be replaced", worker.seat)
                self._broken = True

    @staticmethod
    def _give_up_on(worker: _Worker) -> None:
        """Whoever waits for this worker, or comes to, is told: no answer can come any more."""
        worker.loading.put(Loaded("", OperatorError("A worker process ended while it loaded; the log may say why.")))
        worker.unloading.put(Unloaded(""))

    def _fail(self, lost: list[tuple[str, int]]) -> None:
        for instance, number in lost:
            error = GenerationFailed("The process that worked on this request ended.")
            self._deliver[instance](Report(ended=[(number, error)]))


def _without_pixels(submission: Submission) -> Submission:
    generation = submission.generation
    picture = replace(generation.prompt.picture, pixels=None)
    return replace(submission, generation=replace(generation, prompt=replace(generation.prompt, picture=picture)))

"""A device whose work is done in processes of their own.

Python runs one thread at a time: in the process that reads requests and pictures, a device's thread would wait for its turn again and
again. On a CPU several workers share the requests, each step on a core of its own, because a small matrix product keeps one core busy and
four waiting for one another.
"""

import atexit
import itertools
import logging
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from service.engine.device import Deliver, MakeRunner, Report, RunnerFacts, Submission, Vitals
from service.engine.worker import Abandon, Adopt, Board, FromWorker, Load, Reported, Stop, Unload, work
from service.engine.worker_link import Work, WorkerLink, least_busy
from service.errors import GenerationFailed, ModelNotReady, OperatorError, PaliServeError

logger = logging.getLogger(__name__)

LOADING = 10
"""Times the patience for a step, in which a successor must have loaded: behind a card that fell ill it may hang."""

NONE_READY = "All processes that run the model have ended and are being replaced: try again in a few seconds."


class Workers:
    """The ``Device`` over ``count`` processes, which share ``threads`` threads. ``begin`` is called first in each of them.

    ``preload`` names modules that are imported once for all of them. A worker that dies is replaced, and ``replaced`` called; those of its
    requests that had begun fail, because one of them may have killed it; the others who are waited for are given to another worker, once.
    """

    def __init__(
        self,
        count: int,
        threads: int,
        begin: Callable[[], None],
        preload: list[str],
        replaced: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.copies = count
        self._begin = begin
        self._replaced = replaced
        self._clock = clock
        self._context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        if sys.platform != "win32":
            self._context.set_forkserver_preload(preload)
        stepping, resident, memory = (self._context.RawArray("d", size) for size in (count, count, 2))
        self._board = Board(stepping, resident, memory, threads)
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._numbers = itertools.count(1)
        self._loads: dict[str, Load] = {}
        self._adopted: dict[tuple[str, int], Adopt] = {}
        self._deliver: dict[str, Deliver] = {}
        self._stopping = self._broken = False
        self._hanging: set[int] = set()
        self._replacing: dict[int, float] = {}
        self._workers = [self._spawn(seat) for seat in range(count)]
        # They do not heed the signal by which multiprocessing ends those who are left, and would be waited for without end.
        atexit.register(self.kill)

    def start(self) -> None:
        """See ``Device``. The processes run already."""

    def stop(self) -> None:
        """See ``Device``."""
        workers = self._last()
        for worker in workers:
            worker.outbox.put(Stop())
        for worker in workers:
            worker.process.join()
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """End the processes at once, whatever they do."""
        workers = self._last()
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()

    def _last(self) -> list[WorkerLink]:
        """The workers, which are not replaced any more."""
        with self._lock:
            self._stopping = True
            return list(self._workers)

    def is_ready(self) -> bool:
        """See ``Device``."""
        return any(worker.is_ready for worker in self._workers)

    def is_alive(self, patience: float) -> bool:
        """See ``Device``."""
        is_late = any(self._clock() - began > LOADING * patience for began in list(self._replacing.values()))
        return not (self._broken or self._hanging or is_late or any(self._is_stuck(seat, patience) for seat in range(self.copies)))

    def rescue(self, patience: float) -> bool:
        """See ``Device``. The process may also be stuck between two steps."""
        for worker in list(self._workers):
            unmoved = worker.unmoved(self._board.stepping[worker.seat], self._clock())
            if worker.is_ready and (unmoved > patience or self._is_stuck(worker.seat, patience)):
                logger.error("worker %d has not come on with its work for %g s: the process is killed", worker.seat, patience)
                with self._lock:
                    worker.hangs = True
                    self._hanging.add(worker.seat)
                    begun, untouched = worker.take_back()
                worker.process.kill()
                self._fail(begun + untouched, ModelNotReady, "The model did not come back from a step: try again in a few seconds.")
        return True

    def _is_stuck(self, seat: int, patience: float) -> bool:
        began = self._board.stepping[seat]
        return bool(began) and self._clock() - began > patience

    def vitals(self) -> Vitals:
        """See ``Device``."""
        now = self._clock()
        ages = (now - began for began in self._board.stepping if began)
        used, total = (int(each) for each in self._board.memory)
        return Vitals(max(ages, default=0.0), (used, total) if total else None, tuple(int(each) for each in self._board.resident))

    def load(self, instance: str, make: MakeRunner, prefill_tokens: int, deliver: Deliver) -> RunnerFacts:
        """See ``Device``. The workers load side by side."""
        load = Load(instance, make, prefill_tokens)
        with self._changing:
            self._deliver[instance] = deliver
            workers = list(self._workers)
            for worker in workers:
                worker.outbox.put(load)
            answers = [worker.loaded() for worker in workers]
            for facts in answers:
                if isinstance(facts, OperatorError):
                    # Where it was loaded, it takes room for nothing.
                    self._drop(instance)
                    raise facts
            self._loads[instance] = load
            with self._lock:
                for worker in workers:
                    # One that has ended meanwhile is about to be replaced.
                    worker.is_ready = not worker.is_gone
        return next(facts for facts in answers if isinstance(facts, RunnerFacts))

    def unload(self, instance: str) -> None:
        """See ``Device``."""
        with self._changing:
            self._loads.pop(instance, None)
            self._adopted = {key: each for key, each in self._adopted.items() if each.instance != instance}
            self._drop(instance)

    def adopt(self, instance: str, place: int, folder: str) -> None:
        """See ``Device``. The workers read it side by side."""
        message = Adopt(instance, place, folder)
        with self._changing:
            errors = [error for error in self._change(message) if error is not None]
            if errors:
                self._change(Abandon(instance, place))
                raise errors[0]
            self._adopted[instance, place] = message

    def abandon(self, instance: str, place: int) -> None:
        """See ``Device``."""
        with self._changing:
            self._adopted.pop((instance, place), None)
            self._change(Abandon(instance, place))

    def _change(self, message: Adopt | Abandon) -> list[OperatorError | None]:
        """Tell every worker; what hindered each."""
        workers = list(self._workers)
        for worker in workers:
            worker.outbox.put(message)
        return [worker.changed() for worker in workers]

    def _drop(self, instance: str) -> None:
        workers = list(self._workers)
        for worker in workers:
            worker.outbox.put(Unload(instance))
        for worker in workers:
            worker.unloaded()

    def submit(self, instance: str, submission: Submission) -> None:
        """See ``Device``."""
        with self._lock:
            if self._give(instance, submission):
                return
        self._fail([(instance, submission)], ModelNotReady, NONE_READY)

    def cancel(self, instance: str, number: int) -> None:
        """See ``Device``."""
        with self._lock:
            for worker in self._workers:
                worker.cancel(instance, number)

    def _give(self, instance: str, submission: Submission) -> bool:
        """To a worker, with the lock held; False where none is ready."""
        worker = least_busy(self._workers, submission.generation.prompt.pictures)
        if worker is not None:
            worker.give(instance, submission, self._numbers)
        return worker is not None

    def _spawn(self, seat: int) -> WorkerLink:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, self._board, seat, self._begin), name=f"worker-{seat}", daemon=True)
        process.start()
        theirs.close()
        worker = WorkerLink(seat, process, ours)
        threading.Thread(target=worker.send, name=f"to-worker-{seat}", daemon=True).start()
        threading.Thread(target=self._receive, args=(worker,), name=f"from-worker-{seat}", daemon=True).start()
        return worker

    def _receive(self, worker: WorkerLink) -> None:
        while True:
            try:
                message: FromWorker = worker.pipe.recv()
            except (EOFError, OSError):
                break
            if isinstance(message, Reported):
                with self._lock:
                    worker.heard(message.instance, message.report)
                self._deliver[message.instance](message.report)
            else:
                worker.answered(message)
        self._lost(worker)

    def _lost(self, worker: WorkerLink) -> None:
        """The process is gone, and its requests with it; put another in its place, unless it never came to work."""
        worker.outbox.put(None)
        if self._stopping:
            worker.give_up()
            return
        worker.process.join()
        logger.error("worker %d ended with exit code %s", worker.seat, worker.process.exitcode)
        was_ready = worker.is_ready or worker.hangs
        self._give_again(worker)
        self._board.stepping[worker.seat] = 0.0
        self._broken = self._broken or not was_ready
        worker.give_up()
        if not was_ready:
            return
        with self._changing:
            # Not with the lock: where the fork server is gone too, another one imports all it needs first, which takes seconds.
            successor = self._spawn(worker.seat)
            with self._lock:
                if self._stopping:
                    successor.process.kill()
                    return
                self._workers[worker.seat] = successor
            self._replacing[worker.seat] = self._clock()
            self._replaced()
            waiting: list[Load | Adopt] = [*self._loads.values(), *self._adopted.values()]
            for message in waiting:
                successor.outbox.put(message)
            answers = [*(successor.loaded() for _ in self._loads), *(successor.changed() for _ in self._adopted)]
            if errors := [str(each) for each in answers if isinstance(each, OperatorError)]:
                logger.error("worker %d cannot be replaced: %s", worker.seat, "; ".join(errors))
                self._broken = True
                return
            with self._lock:
                # Not before: a request for what it does not have yet would find nothing, or no adapter.
                successor.is_ready = not successor.is_gone
            self._hanging.discard(successor.seat)
            del self._replacing[successor.seat]

    def _give_again(self, worker: WorkerLink) -> None:
        with self._lock:
            begun, untouched = worker.take_back()
            left = [(instance, each) for instance, each in untouched if not self._give(instance, replace(each, again=True))]
        self._fail(begun, GenerationFailed, "The process that worked on this request ended.")
        self._fail(left, ModelNotReady, NONE_READY)

    def _fail(self, lost: list[Work], kind: type[PaliServeError], message: str) -> None:
        for instance, submission in lost:
            self._deliver[instance](Report(ended=[(submission.number, kind(message))]))

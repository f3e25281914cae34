"""The one thread that touches a device. All instances on the device take turns in it."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from service.engine.request import Request
from service.engine.runner import ModelRunner, Sampled
from service.engine.scheduler import Decode, Prefill, Scheduler

logger = logging.getLogger(__name__)

Message = Callable[[], None]


class StepObserver(Protocol):
    """Is told the phase ("prefill" or "decode") and the rows of every batch that ran. Called on the device thread."""

    def batch_ran(self, phase: str, size: int) -> None: ...


@dataclass(slots=True)
class Report:
    """What one step changed: who began to run and who ended."""

    started: list[Request] = field(default_factory=list)
    ended: list[Request] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.ended)


@dataclass(slots=True, eq=False)
class Lane:
    """One instance's scheduler and runner, and where its reports go (called on the device thread, once per step).

    ``spent`` is the device time it had, in seconds for each of its requests.
    """

    scheduler: Scheduler
    runner: ModelRunner
    notify: Callable[[Report], None]
    spent: float = 0.0
    was_idle: bool = True


class DeviceLoop:
    """Runs steps while any lane has work, and sleeps on its mailbox while none has."""

    def __init__(self, observer: StepObserver, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._clock = clock
        self._mailbox: SimpleQueue[Message] = SimpleQueue()
        self._lanes: list[Lane] = []
        self._stopping = False
        self._least_spent = 0.0
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish all work that was accepted, then end the thread. Blocks."""
        self.post(self._stop)
        self._thread.join()

    def post(self, message: Message) -> None:
        """Have ``message`` called on the device thread before its next step. Safe from any thread."""
        self._mailbox.put(message)

    def add_lane(self, lane: Lane) -> None:
        """Let an instance take turns from the next step on. Safe from any thread."""
        self.post(lambda: self._lanes.append(lane))

    def is_alive(self, patience: float) -> bool:
        """Whether the thread runs and its present step, if any, began less than ``patience`` seconds ago."""
        began = self._step_began
        return self._thread.is_alive() and (began is None or self._clock() - began < patience)

    def _stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        while True:
            self._read_mail()
            lane = self._next_lane()
            if lane is None:
                if self._stopping:
                    return
                continue
            load = lane.scheduler.load
            self._step_began = began = self._clock()
            self._step(lane)
            self._step_began = None
            lane.spent += (self._clock() - began) / load

    def _next_lane(self) -> Lane | None:
        """The busy lane whose requests had the least device time each: so every request gets the same share, and none starves.

        A lane that was idle starts where the others are: it neither owes nor has saved anything.
        """
        busy = [lane for lane in self._lanes if lane.scheduler.load]
        self._least_spent = min((lane.spent for lane in busy if not lane.was_idle), default=self._least_spent)
        for lane in self._lanes:
            if lane.was_idle and lane.scheduler.load:
                lane.spent = max(lane.spent, self._least_spent)
            lane.was_idle = not lane.scheduler.load
        return min(busy, key=lambda lane: lane.spent, default=None)

    def _read_mail(self) -> None:
        idle = not self._stopping and not any(lane.scheduler.load for lane in self._lanes)
        try:
            self._mailbox.get(block=idle)()
            while True:
                self._mailbox.get(block=False)()
        except Empty:
            return

    def _step(self, lane: Lane) -> None:
        moves, dropped = lane.scheduler.retire(self._clock())
        batch = lane.scheduler.next_batch()
        report = Report(ended=dropped)
        try:
            for source, target in moves:
                lane.runner.move(source, target)
        except Exception:
            logger.exception("a slot could not be moved")
            # Nobody's row can be trusted any more, and who was about to join sits behind them.
            report.ended += lane.scheduler.fail(lane.scheduler.live)
        else:
            if batch is not None:
                self._run_batch(lane, batch, report)
        if report:
            lane.notify(report)

    def _run_batch(self, lane: Lane, batch: Prefill | Decode, report: Report) -> None:
        """Run it and record what came of it. What fails together is tried again in halves, until it works or one fails alone."""
        if isinstance(batch, Prefill):
            report.started += self._start(batch)
        try:
            sampled = self._prefill(lane.runner, batch) if isinstance(batch, Prefill) else lane.runner.decode(batch.slots)
        except Exception:
            logger.exception("a step of %d requests failed", len(batch.requests))
            if len(batch.requests) == 1:
                report.ended += lane.scheduler.fail(batch.requests)
                return
        else:
            report.ended += lane.scheduler.record(batch, sampled, self._clock())
            self._observer.batch_ran(type(batch).__name__.lower(), len(batch.requests))
            return
        # Out here, because the error above holds on to the memory that the halves need.
        for half in batch.halves():
            self._run_batch(lane, half, report)

    def _start(self, batch: Prefill) -> list[Request]:
        """Mark the beginning of those who had not begun."""
        fresh = [request for request in batch.requests if request.started is None]
        for request in fresh:
            request.started = self._clock()
        return fresh

    def _prefill(self, runner: ModelRunner, batch: Prefill) -> Sampled:
        """Encode each picture that nobody has encoded yet, once, and fill the slots."""
        began = self._clock()
        raw = [request for request in batch.requests if request.generation.prompt.picture.features is None]
        pictures = list({id(request.generation.prompt.picture): request.generation.prompt.picture for request in raw}.values())
        if pictures:
            features = runner.encode([picture.pixels for picture in pictures])
            for picture, encoded in zip(pictures, features, strict=True):
                picture.features, picture.pixels = encoded, None
            self._observer.batch_ran("vision", len(pictures))
            vision = self._clock() - began
            for request in raw:
                request.vision = vision
        return runner.prefill([request.generation for request in batch.requests], batch.first_slot)

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
    """What one step changed: who began to run, who has news for a listener, and who ended."""

    started: list[Request] = field(default_factory=list)
    chosen: list[tuple[Request, list[tuple[int, float]]]] = field(default_factory=list)
    ended: list[Request] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.chosen or self.ended)

    def add_news(self, requests: list[Request]) -> None:
        """Copy what was chosen for those among the requests who have a listener: the device thread goes on writing."""
        with_news = ((request, request.news()) for request in requests if request.listener is not None)
        self.chosen.extend((request, news) for request, news in with_news if news)


@dataclass(slots=True, eq=False)
class Lane:
    """One instance's scheduler and runner, and where its reports go (called on the device thread, once per step)."""

    scheduler: Scheduler
    runner: ModelRunner
    notify: Callable[[Report], None]


class DeviceLoop:
    """Runs steps while any lane has work, and sleeps on its mailbox while none has."""

    def __init__(self, observer: StepObserver, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._clock = clock
        self._mailbox: SimpleQueue[Message] = SimpleQueue()
        self._lanes: list[Lane] = []
        self._stopping = False
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
            busy = [lane for lane in self._lanes if lane.scheduler.busy]
            if not busy and self._stopping:
                return
            for lane in busy:
                self._step_began = self._clock()
                self._step(lane)
                self._step_began = None
                self._read_mail(wait=False)

    def _read_mail(self, wait: bool = True) -> None:
        idle = wait and not self._stopping and not any(lane.scheduler.busy for lane in self._lanes)
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
            if batch is not None:
                sampled = self._run_batch(lane.runner, batch, report)
                report.ended.extend(lane.scheduler.record(batch, sampled, self._clock()))
                report.add_news(batch.requests)
        except Exception:
            logger.exception("a step failed")
            # After a failed move nobody's row can be trusted.
            lost = batch.requests if batch is not None and not moves else lane.scheduler.live
            report.ended.extend(lane.scheduler.fail(lost))
        if report:
            lane.notify(report)
        if batch is not None:
            self._observer.batch_ran(type(batch).__name__.lower(), len(batch.requests))

    def _run_batch(self, runner: ModelRunner, batch: Prefill | Decode, report: Report) -> Sampled:
        if isinstance(batch, Decode):
            return runner.decode(len(batch.requests))
        began = self._clock()
        for request in batch.requests:
            request.started = began
        report.started.extend(batch.requests)
        generations = [request.generation for request in batch.requests]
        features = runner.encode(generations)
        vision = self._clock() - began
        for request in batch.requests:
            request.vision = vision
        return runner.prefill(generations, features, batch.first_slot)

"""The one thread that touches a device. All instances on the device take turns in it."""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from service.engine.device import Deliver, MakeRunner, Report, RunnerFacts, Submission, Vitals
from service.engine.request import Request
from service.engine.runner import ModelRunner, Sampled
from service.engine.scheduler import Decode, Prefill, Scheduler

logger = logging.getLogger(__name__)

Message = Callable[[], None]

MEASURED_EVERY = 1.0
"""Seconds between two looks at a device's memory."""


@dataclass(slots=True, eq=False)
class Lane:
    """One instance's scheduler and runner, its requests by number, and where its reports go.

    ``spent`` is the device time it had, in seconds for each of its requests.
    """

    scheduler: Scheduler
    runner: ModelRunner
    deliver: Deliver
    requests: dict[int, Request] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    spent: float = 0.0
    was_idle: bool = True


class DeviceLoop:
    """The ``Device`` of this process: runs steps while any lane has work, and sleeps on its mailbox while none has.

    ``threads`` tells the runners how many threads they may use; ``stepping`` is told when each step begins, and 0 when it has ended;
    ``measured`` is told of the device's memory (see ``Vitals``) every now and then.
    """

    copies = 1

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        threads: Callable[[], int] = lambda: 1,
        stepping: Callable[[float], None] = lambda began: None,
        measured: Callable[[tuple[int, int] | None], None] = lambda memory: None,
    ) -> None:
        self._clock = clock
        self._threads = threads
        self._stepping = stepping
        self._measured = measured
        self._memory: tuple[int, int] | None = None
        self._next_measure = 0.0
        self._mailbox: SimpleQueue[Message] = SimpleQueue()
        self._lanes: dict[str, Lane] = {}
        self._stopping = False
        self._least_spent = 0.0
        self._step_began = 0.0
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """See ``Device``."""
        self._thread.start()

    def stop(self) -> None:
        """See ``Device``."""
        self._mailbox.put(self._stop)
        self._thread.join()

    def is_alive(self, patience: float) -> bool:
        """See ``Device``."""
        began = self._step_began
        return self._thread.is_alive() and (not began or self._clock() - began < patience)

    def vitals(self) -> Vitals:
        """See ``Device``."""
        began = self._step_began
        return Vitals(self._clock() - began if began else 0.0, self._memory)

    def load(self, instance: str, make: MakeRunner, prefill_tokens: int, deliver: Deliver) -> RunnerFacts:
        """See ``Device``. Loads in the calling thread."""
        runner = make(self._threads)
        lane = Lane(Scheduler(runner.slots, runner.image_tokens, runner.end_tokens, prefill_tokens), runner, deliver)
        self._mailbox.put(lambda: self._lanes.update({instance: lane}))
        self._measure(runner)
        return RunnerFacts(runner.slots, runner.image_tokens, runner.feature_bytes, runner.end_tokens, runner.vocabulary_size)

    def unload(self, instance: str) -> None:
        """See ``Device``. The device must have been started."""

        def drop() -> None:
            lane = self._lanes.pop(instance, None)
            # Who was cancelled a moment ago has not been told of yet.
            if lane is not None and lane.requests:
                lane.deliver(Report(ended=[(number, None) for number in lane.requests]))

        self._between_steps(drop)

    def adopt(self, instance: str, place: int, folder: str) -> None:
        """See ``Device``. Reads in the calling thread; the device must have been started."""
        # Loading may have put the lane into the mailbox only a moment ago.
        runners: list[ModelRunner] = []
        self._between_steps(lambda: runners.append(self._lanes[instance].runner))
        adapter = runners[0].read_adapter(folder)
        self._between_steps(lambda: runners[0].adopt(place, adapter))

    def abandon(self, instance: str, place: int) -> None:
        """See ``Device``. The device must have been started."""

        def empty() -> None:
            if instance in self._lanes:
                self._lanes[instance].runner.abandon(place)

        self._between_steps(empty)

    def _between_steps(self, work: Callable[[], object]) -> None:
        """Have it done by the device's thread, and wait for that. Errors: those of ``work``."""
        done: Future[object] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self._mailbox.put(do)
        done.result()

    def submit(self, instance: str, submission: Submission) -> None:
        """See ``Device``."""
        self._mailbox.put(lambda: self._add(self._lanes[instance], submission))

    def cancel(self, instance: str, number: int) -> None:
        """See ``Device``."""
        self._mailbox.put(lambda: self._cancel(self._lanes[instance], number))

    @staticmethod
    def _add(lane: Lane, submission: Submission) -> None:
        request = Request(submission.generation, submission.arrived, submission.number, submission.streamed, submission.caller)
        lane.requests[submission.number] = request
        lane.scheduler.add(request)

    @staticmethod
    def _cancel(lane: Lane, number: int) -> None:
        # Whoever has ended meanwhile is not there any more.
        if number in lane.requests:
            lane.requests[number].cancelled = True

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
            self._stepping(began)
            self._step(lane)
            self._step_began = 0.0
            self._stepping(0.0)
            ended = self._clock()
            lane.spent += (ended - began) / load
            if ended >= self._next_measure:
                self._next_measure = ended + MEASURED_EVERY
                self._measure(lane.runner)

    def _measure(self, runner: ModelRunner) -> None:
        self._memory = runner.device_memory()
        self._measured(self._memory)

    def _next_lane(self) -> Lane | None:
        """The busy lane whose requests had the least device time each: so every request gets the same share, and none starves.

        A lane that was idle starts where the others are: it neither owes nor has saved anything.
        """
        busy = [lane for lane in self._lanes.values() if lane.scheduler.load]
        self._least_spent = min((lane.spent for lane in busy if not lane.was_idle), default=self._least_spent)
        for lane in self._lanes.values():
            if lane.was_idle and lane.scheduler.load:
                lane.spent = max(lane.spent, self._least_spent)
            lane.was_idle = not lane.scheduler.load
        return min(busy, key=lambda lane: lane.spent, default=None)

    def _read_mail(self) -> None:
        idle = not self._stopping and not any(lane.scheduler.load for lane in self._lanes.values())
        try:
            self._mailbox.get(block=idle)()
            while True:
                self._mailbox.get(block=False)()
        except Empty:
            return

    def _step(self, lane: Lane) -> None:
        moves, dropped = lane.scheduler.retire(self._clock())
        self._ended(lane, dropped)
        batch = lane.scheduler.next_batch()
        try:
            for source, target in moves:
                lane.runner.move(source, target)
        except Exception:
            logger.exception("a slot could not be moved")
            # Nobody's row can be trusted any more, and who was about to join sits behind them.
            self._ended(lane, lane.scheduler.fail(lane.scheduler.live))
        else:
            if batch is not None:
                self._run_batch(lane, batch)
        if lane.report.is_news:
            report, lane.report = lane.report, Report()
            lane.deliver(report)

    def _run_batch(self, lane: Lane, batch: Prefill | Decode) -> None:
        """Run it and record what came of it. What fails together is tried again in halves, until it works or one fails alone."""
        if isinstance(batch, Prefill):
            self._start(lane, batch)
        try:
            sampled = self._prefill(lane, batch) if isinstance(batch, Prefill) else lane.runner.decode(batch.slots)
        except Exception:
            logger.exception("a step of %d requests failed", len(batch.requests))
            if len(batch.requests) == 1:
                self._ended(lane, lane.scheduler.fail(batch.requests))
                return
        else:
            self._record(lane, batch, sampled)
            return
        # Out here, because the error above holds on to the memory that the halves need.
        for half in batch.halves():
            self._run_batch(lane, half)

    def _record(self, lane: Lane, batch: Prefill | Decode, sampled: Sampled) -> None:
        ended = lane.scheduler.record(batch, sampled, self._clock())
        lane.report.batches.append((type(batch).__name__.lower(), len(batch.requests)))
        for request, token, probability in zip(batch.requests, sampled.tokens, sampled.probabilities, strict=True):
            # An end token, or one that is no number, was not taken into the answer.
            if request.streamed and token not in lane.runner.end_tokens and not math.isnan(probability):
                lane.report.chosen.append((request.number, token, probability))
        self._ended(lane, ended)

    @staticmethod
    def _ended(lane: Lane, requests: list[Request]) -> None:
        for request in requests:
            del lane.requests[request.number]
            lane.report.ended.append((request.number, request.outcome))

    def _start(self, lane: Lane, batch: Prefill) -> None:
        """Mark the beginning of those who had not begun."""
        for request in batch.requests:
            if request.started is None:
                request.started = self._clock()
                lane.report.started.append(request.number)

    def _prefill(self, lane: Lane, batch: Prefill) -> Sampled:
        """Encode each picture that nobody has encoded yet, once, and fill the slots."""
        began = self._clock()
        raw = [request for request in batch.requests if any(each.features is None for each in request.generation.prompt.pictures)]
        shown = [picture for request in raw for picture in request.generation.prompt.pictures if picture.features is None]
        pictures = list({id(picture): picture for picture in shown}.values())
        if pictures:
            features = lane.runner.encode(pictures)
            for picture, encoded in zip(pictures, features, strict=True):
                picture.features, picture.pixels = encoded, None
            lane.report.batches.append(("vision", len(pictures)))
            vision = self._clock() - began
            for request in raw:
                request.vision = vision
        return lane.runner.prefill([request.generation for request in batch.requests], batch.first_slot)

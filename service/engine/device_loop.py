"""The one thread that touches a device. All instances on the device take turns in it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from service.engine.device import Deliver, MakeRunner, Report, RunnerFacts, Submission, Vitals
from service.engine.lane import Lane
from service.engine.runner import ModelRunner
from service.engine.scheduler import Scheduler

Message = Callable[[], None]

MEASURED_EVERY = 1.0
"""Seconds between two looks at a device's memory."""


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
        self._hangs = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """See ``Device``."""
        self._thread.start()

    def stop(self) -> None:
        """See ``Device``."""
        self._mailbox.put(self._stop)
        # A thread that hangs would be waited for without end.
        if not self._hangs:
            self._thread.join()

    def is_alive(self, patience: float) -> bool:
        """See ``Device``."""
        began = self._step_began
        return self._thread.is_alive() and (not began or self._clock() - began < patience)

    def is_ready(self) -> bool:
        """See ``Device``."""
        return not self._hangs

    def rescue(self, patience: float) -> bool:
        """See ``Device``. A thread cannot be killed; should it come back from its step, it works on."""
        self._hangs = not self.is_alive(patience)
        return not self._hangs

    def vitals(self) -> Vitals:
        """See ``Device``."""
        began = self._step_began
        return Vitals(self._clock() - began if began else 0.0, self._memory)

    def load(self, instance: str, make: MakeRunner, prefill_tokens: int, deliver: Deliver) -> RunnerFacts:
        """See ``Device``. Loads in the calling thread."""
        runner = make(self._threads)
        scheduler = Scheduler(runner.slots, runner.image_tokens, runner.end_tokens, prefill_tokens)
        lane = Lane(scheduler, runner, deliver, self._clock)
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
        self._mailbox.put(lambda: self._lanes[instance].add(submission))

    def cancel(self, instance: str, number: int) -> None:
        """See ``Device``."""
        self._mailbox.put(lambda: self._lanes[instance].cancel(number))

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
            lane.step()
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

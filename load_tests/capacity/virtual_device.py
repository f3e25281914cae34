"""The engine's own device loop and scheduler in virtual time: a runner that computes nothing lets the clock run on instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from load_tests.capacity.service_times import InstanceTimes
from service.engine.device import Report, Submission
from service.engine.device_loop import DeviceLoop
from service.engine.generation import Generation, Picture
from service.engine.runner import Sampled

TOKEN = 7
"""Every token that is written. Answers end by their budget, which counts the end token."""


@dataclass(slots=True)
class VirtualClock:
    """Seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class TimedRunner:
    """A ``ModelRunner`` whose steps take the time that is known of them."""

    times: InstanceTimes
    clock: VirtualClock
    slots: int = 0
    image_tokens: int = 0
    feature_bytes: int = 1
    vocabulary_size: int = 10
    end_tokens: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        self.slots, self.image_tokens = self.times.slots, self.times.image_tokens

    def encode(self, pictures: Sequence[Picture]) -> Sequence[object]:
        self.clock.now += self.times.vision.of(len(pictures))
        return [True] * len(pictures)

    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        text = sum(len(each.prompt.tokens) for each in generations)
        self.clock.now += self.times.prefill.of(text + self.image_tokens * len(generations))
        return self._sampled(len(generations))

    def decode(self, slots: range) -> Sampled:
        self.clock.now += self.times.decode.of(len(slots))
        return self._sampled(len(slots))

    @staticmethod
    def _sampled(rows: int) -> Sampled:
        return Sampled([TOKEN] * rows, [1.0] * rows)

    def move(self, source: int, target: int) -> None:
        """Takes no time of its own."""

    def device_memory(self) -> tuple[int, int] | None:
        """It has none."""
        return None

    def read_adapter(self, folder: str) -> object:
        raise NotImplementedError

    def adopt(self, place: int, adapter: object) -> None:
        raise NotImplementedError

    def abandon(self, place: int) -> None:
        raise NotImplementedError


class VirtualWorker:
    """One device loop, driven turn by turn. ``running`` are the requests it was sent that have not ended."""

    def __init__(self, seat: int, instances: dict[str, InstanceTimes], deliver: Callable[[str, Report], None]) -> None:
        self.seat = seat
        self.running: set[int] = set()
        self.is_busy = False
        self.stepped = 0.0
        self._clock = VirtualClock()
        self._loop = DeviceLoop(clock=self._clock)
        self._reports: list[tuple[str, Report]] = []
        self._deliver = deliver
        for name, times in instances.items():
            self._load(name, times)
        # Empties the mailbox: from now on whoever is idle is not asked to read it, because that would wait.
        self._loop._mailbox.put(lambda: None)
        self._loop._read_mail()

    def _load(self, name: str, times: InstanceTimes) -> None:
        def deliver(report: Report) -> None:
            self._reports.append((name, report))

        self._loop.load(name, lambda threads: TimedRunner(times, self._clock), times.prefill_tokens, deliver)

    def submit(self, instance: str, submission: Submission) -> None:
        """Put it into the mailbox, which the next turn reads."""
        self.running.add(submission.number)
        self._loop.submit(instance, submission)

    @property
    def has_work(self) -> bool:
        """Whether a turn would not wait for mail."""
        return not self._loop._mailbox.empty() or any(lane.scheduler.load for lane in self._loop._lanes.values())

    def turn(self, now: float) -> float:
        """One turn of the device loop, as its thread does it; returns when that ends. ``finish`` must be called then."""
        self._clock.now = now
        self.is_busy = True
        self._loop._read_mail()
        lane = self._loop._next_lane()
        if lane is not None:
            load = lane.scheduler.load
            lane.step()
            lane.spent += (self._clock.now - now) / load
        self.stepped += self._clock.now - now
        return self._clock.now

    def finish(self) -> None:
        """The turn has ended: what it reports is known now."""
        self.is_busy = False
        reports, self._reports = self._reports, []
        for instance, report in reports:
            self.running.difference_update(number for number, _ in report.ended)
            self._deliver(instance, report)

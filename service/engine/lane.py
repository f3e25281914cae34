"""One instance's turn on its device: its scheduler, its runner, and what comes of a step."""

import logging
import math
from collections.abc import Callable

from service.engine.device import Deliver, Report, Submission
from service.engine.request import Request
from service.engine.runner import ModelRunner, Sampled
from service.engine.scheduler import Decode, Prefill, Scheduler

logger = logging.getLogger(__name__)


class Lane:
    """Runs an instance's steps, and tells ``deliver`` what happened. Belongs to the device's thread.

    ``requests`` are known by their numbers. ``spent`` is the device time it had, in seconds for each of its requests.
    """

    def __init__(self, scheduler: Scheduler, runner: ModelRunner, deliver: Deliver, clock: Callable[[], float]) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.deliver = deliver
        self.requests: dict[int, Request] = {}
        self.spent = 0.0
        self.was_idle = True
        self._report = Report()
        self._clock = clock

    def add(self, submission: Submission) -> None:
        """Queue a generation."""
        request = Request(submission.generation, submission.arrived, submission.number, submission.streamed, submission.caller)
        self.requests[submission.number] = request
        self.scheduler.add(request)

    def cancel(self, number: int) -> None:
        """Drop it with the next step, unless it has ended meanwhile."""
        if number in self.requests:
            self.requests[number].cancelled = True

    def step(self) -> None:
        """Let go who has ended or left, run one batch, tell what came of it."""
        moves, dropped = self.scheduler.retire(self._clock())
        self._ended(dropped)
        batch = self.scheduler.next_batch()
        try:
            for source, target in moves:
                self.runner.move(source, target)
        except Exception:
            logger.exception("a slot could not be moved")
            # Nobody's row can be trusted any more, and who was about to join sits behind them.
            self._ended(self.scheduler.fail(self.scheduler.live))
        else:
            if batch is not None:
                self._begin(batch)
                self._run_batch(batch)
        self._tell()

    def _begin(self, batch: Prefill | Decode) -> None:
        """Tell of those who begin before they do: if the step takes this process with it, nobody else can be the cause."""
        for request in batch.requests:
            if request.started is None:
                request.started = self._clock()
                self._report.started.append(request.number)
        if self._report.started:
            self._tell()

    def _tell(self) -> None:
        if self._report.is_news:
            report, self._report = self._report, Report()
            self.deliver(report)

    def _run_batch(self, batch: Prefill | Decode) -> None:
        """Run it and record what came of it. What fails together is tried again in halves, until it works or one fails alone.

        So of a batch of n rows, the one that always fails is run 1 + log2(n) times, rounded up.
        """
        try:
            sampled = self._prefill(batch) if isinstance(batch, Prefill) else self.runner.decode(batch.slots)
        except Exception:
            logger.exception("a step of %d requests failed", len(batch.requests))
            if len(batch.requests) == 1:
                self._ended(self.scheduler.fail(batch.requests))
                return
        else:
            self._record(batch, sampled)
            return
        # Out here, because the error above holds on to the memory that the halves need.
        for half in batch.halves():
            self._run_batch(half)

    def _record(self, batch: Prefill | Decode, sampled: Sampled) -> None:
        ended = self.scheduler.record(batch, sampled, self._clock())
        self._report.batches.append((type(batch).__name__.lower(), len(batch.requests)))
        for request, token, probability in zip(batch.requests, sampled.tokens, sampled.probabilities, strict=True):
            # An end token, or one that is no number, was not taken into the answer.
            if request.streamed and token not in self.runner.end_tokens and not math.isnan(probability):
                self._report.chosen.append((request.number, token, probability))
        self._ended(ended)

    def _ended(self, requests: list[Request]) -> None:
        for request in requests:
            del self.requests[request.number]
            self._report.ended.append((request.number, request.outcome))

    def _prefill(self, batch: Prefill) -> Sampled:
        """Encode each picture that nobody has encoded yet, once, and fill the slots."""
        began = self._clock()
        raw = [request for request in batch.requests if any(each.features is None for each in request.generation.prompt.pictures)]
        shown = [picture for request in raw for picture in request.generation.prompt.pictures if picture.features is None]
        pictures = list({id(picture): picture for picture in shown}.values())
        if pictures:
            features = self.runner.encode(pictures)
            for picture, encoded in zip(pictures, features, strict=True):
                picture.features, picture.pixels = encoded, None
            self._report.batches.append(("vision", len(pictures)))
            vision = self._clock() - began
            for request in raw:
                request.vision = vision
        return self.runner.prefill([request.generation for request in batch.requests], batch.first_slot)

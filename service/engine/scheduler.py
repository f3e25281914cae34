"""Who runs in the next step. Synchronous, without a clock, without a lock: time comes in as an argument."""

import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self

from service.engine.generation import FinishReason, Generated
from service.engine.line import Line
from service.engine.request import Phase, Request
from service.engine.runner import Sampled
from service.engine.slots import SlotTable
from service.errors import DeadlineExceeded, GenerationFailed


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that a step works on together, in the slots from ``first_slot`` on."""

    requests: list[Request]
    first_slot: int = 0

    @property
    def slots(self) -> range:
        """Where they sit."""
        return range(self.first_slot, self.first_slot + len(self.requests))

    def halves(self) -> tuple[Self, Self]:
        """The same work in two batches."""
        middle = len(self.requests) // 2
        first, second = self.requests[:middle], self.requests[middle:]
        return replace(self, requests=first), replace(self, requests=second, first_slot=self.first_slot + middle)


@dataclass(frozen=True, slots=True)
class Prefill(Batch):
    """New requests."""


@dataclass(frozen=True, slots=True)
class Decode(Batch):
    """One more token each, for those who are live."""


class Scheduler:
    """Into ``slots`` slots, in the order of ``Line``.

    A prefill takes at most ``prefill_tokens`` tokens (but at least one prompt), and no two prefills follow one another while others decode:
    so the ones who are writing never wait longer than one bounded prefill for their next token. Prompts that come one by one while others
    decode are gathered for a few steps, until they fill a prefill, because a full one costs less for each of them.
    """

    PATIENCE = 6
    """Decode steps for which a prompt waits for others at most."""

    def __init__(self, slots: int, image_tokens: int, end_tokens: frozenset[int], prefill_tokens: int) -> None:
        self._table = SlotTable(slots)
        self._line = Line()
        self._image_tokens = image_tokens
        self._end_tokens = end_tokens
        self._prefill_tokens = prefill_tokens
        self._decodes = 0

    @property
    def load(self) -> int:
        """Requests that wait or are live; 0 when a step would have nothing to do."""
        return len(self._line) + len(self._table.live)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._line.add(request)

    def retire(self, now: float) -> tuple[list[tuple[int, int]], list[Request]]:
        """Empty the slots of who has ended, and drop who was cancelled or whose deadline has passed.

        Returns the moves that the runner must make, and the requests dropped here.
        """
        dropped = self._line.drop(lambda request: _is_lost(request, now))
        dropped += [request for request in self._table.live if request.phase is Phase.RUNNING and _is_lost(request, now)]
        for request in dropped:
            request.phase = Phase.ENDED
            if not request.cancelled:
                request.outcome = DeadlineExceeded("The request's time ran out before its answer was complete; allow more with timeout_ms.")
        leaving = {request for request in self._table.live if request.phase is Phase.ENDED}
        return (self._table.release(leaving) if leaving else []), dropped

    def next_batch(self) -> Prefill | Decode | None:
        """Waiting prompts into free slots, else one more token for all who are live; None when there is nothing to do."""
        if self._prefill_is_due():
            requests = self._admit()
            self._decodes = 0
            return Prefill(requests, self._table.take(requests))
        if not self._table.live:
            return None
        self._decodes += 1
        return Decode(self.live)

    def record(self, batch: Prefill | Decode, sampled: Sampled, now: float) -> list[Request]:
        """Append each row's token; returns the requests that ended with it."""
        ended = []
        for request, token, probability in zip(batch.requests, sampled.tokens, sampled.probabilities, strict=True):
            if isinstance(batch, Prefill):
                request.first_token = now
            if math.isnan(probability):
                self._end(request, GenerationFailed("The model gave no finite probabilities for this request."))
            elif token in self._end_tokens:
                self._end(request, _generated(request, probability, now))
            else:
                request.tokens.append(token)
                request.probabilities.append(probability)
                if len(request.tokens) >= request.generation.max_tokens:
                    self._end(request, _generated(request, None, now))
            if request.phase is Phase.ENDED:
                ended.append(request)
        return ended

    def fail(self, requests: list[Request]) -> list[Request]:
        """A step failed: these requests end with an error, the others go on. Returns the requests."""
        for request in requests:
            self._end(request, GenerationFailed("The model failed while it worked on this request."))
        return requests

    @property
    def live(self) -> list[Request]:
        """The requests in slots 0, 1, 2, …"""
        return list(self._table.live)

    def _prefill_is_due(self) -> bool:
        joining = min(len(self._line), self._table.free)
        if not joining or not self._table.live:
            return joining > 0
        return self._decodes >= self.PATIENCE or (self._decodes > 0 and self._fills_a_prefill(joining))

    def _fills_a_prefill(self, joining: int) -> bool:
        """Whether one more prompt would be too many beside the first ``joining``."""
        tokens = sum(self._tokens(request) for request in islice(self._line.joining(self._table.live), joining))
        return tokens + self._image_tokens >= self._prefill_tokens

    def _tokens(self, request: Request) -> int:
        prompt = request.generation.prompt
        return self._image_tokens * len(prompt.pictures) + len(prompt.tokens)

    def _admit(self) -> list[Request]:
        requests: list[Request] = []
        tokens = 0
        for request in islice(self._line.joining(self._table.live), self._table.free):
            tokens += self._tokens(request)
            if requests and tokens > self._prefill_tokens:
                break
            request.phase = Phase.RUNNING
            requests.append(request)
        self._line.take(requests)
        # Prompts of one length side by side are attended to in one piece.
        return sorted(requests, key=self._tokens)

    @staticmethod
    def _end(request: Request, outcome: Generated | GenerationFailed) -> None:
        request.phase = Phase.ENDED
        request.outcome = outcome


def _is_lost(request: Request, now: float) -> bool:
    deadline = request.generation.deadline
    return request.cancelled or (deadline is not None and now >= deadline)


def _generated(request: Request, end_probability: float | None, now: float) -> Generated:
    reason = FinishReason.LENGTH if end_probability is None else FinishReason.STOP
    return Generated(tuple(request.tokens), tuple(request.probabilities), end_probability, reason, request.times(now))

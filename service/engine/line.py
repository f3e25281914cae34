"""Requests that wait for a slot: first come, first served among those of one caller, and callers take turns."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush

from service.engine.request import Request


class Line:
    """The next free slot goes to the caller who holds fewest, among equals to who was served longest ago.

    So however many requests a caller sends, another's next one waits for a share of the slots, and not behind them all.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Request]] = {}
        self._served: dict[str, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        return sum(len(requests) for requests in self._waiting.values())

    def add(self, request: Request) -> None:
        """Queue a request behind its caller's others."""
        caller = request.caller
        if caller not in self._waiting:
            self._waiting[caller] = deque()
            self._has_had_a_turn(caller)
        self._waiting[caller].append(request)

    def drop(self, is_lost: Callable[[Request], bool]) -> list[Request]:
        """Remove whoever is lost; returns them."""
        lost = [request for requests in self._waiting.values() for request in requests if is_lost(request)]
        for caller in {request.caller for request in lost}:
            self._keep(caller, deque(request for request in self._waiting[caller] if not is_lost(request)))
        return lost

    def joining(self, live: Iterable[Request]) -> Iterator[Request]:
        """Who would be next, in order, beside those who are live. Nobody may come or go meanwhile."""
        held = Counter(request.caller for request in live)
        waiting = {caller: iter(requests) for caller, requests in self._waiting.items()}
        turns = [(held[caller], self._served[caller], caller) for caller in waiting]
        heapify(turns)
        turn = self._turn
        while turns:
            slots, _, caller = heappop(turns)
            if (request := next(waiting[caller], None)) is not None:
                yield request
                turn += 1
                heappush(turns, (slots + 1, turn, caller))

    def take(self, requests: list[Request]) -> None:
        """Remove those who join: the first of ``joining``, in that order."""
        for request in requests:
            caller = request.caller
            self._waiting[caller].popleft()
            self._has_had_a_turn(caller)
            self._keep(caller, self._waiting[caller])

    def _has_had_a_turn(self, caller: str) -> None:
        self._turn += 1
        self._served[caller] = self._turn

    def _keep(self, caller: str, requests: deque[Request]) -> None:
        self._waiting[caller] = requests
        if not requests:
            del self._waiting[caller], self._served[caller]

"""The process that reads and answers, in virtual time."""

import heapq

from load_tests.capacity.service_times import FrontTimes


class Front:
    """The event loop, one piece of work at a time, and the cores that decode pictures. Times at which each will be free."""

    def __init__(self, times: FrontTimes) -> None:
        self.times = times
        self.worked = 0.0
        self._free = 0.0
        self._decoders = [0.0] * times.decoders

    def work(self, now: float, seconds: float) -> float:
        """Do so much on the event loop; returns when it is done."""
        self._free = max(now, self._free) + seconds
        self.worked += seconds
        return self._free

    def decode(self, now: float) -> float:
        """Decode one picture; returns when it is done."""
        if not self._decoders:
            return self.work(now, self.times.picture)
        done = max(now, heapq.heappop(self._decoders)) + self.times.picture
        heapq.heappush(self._decoders, done)
        return done

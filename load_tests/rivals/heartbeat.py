"""Notices when a core or this process stands still: a virtual machine's host stops cores, and somebody may stop processes.

One core is enough to hold all of torch's threads up at their next barrier: a figure that holds such a time says nothing about a server.
"""

import os
import threading
import time
from types import TracebackType

BEAT = 0.05
STANDSTILL = 0.8
"""Seconds between two beats of a core that no scheduler needs, however busy it is."""


class Heartbeat:
    """While the block runs a thread on each core wakes every 50 ms; ``longest`` is the longest time that one of them did not."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._beat, args=(core,), daemon=True) for core in os.sched_getaffinity(0)]

    def __enter__(self) -> "Heartbeat":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _beat(self, core: int) -> None:
        # On Linux a thread is a process to the scheduler: 0 is the calling thread.
        os.sched_setaffinity(0, {core})
        last = time.monotonic()
        while not self._ended.wait(BEAT):
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now

"""Notices when the whole machine stands still, as virtual machines do when their host stops them: no figure may hold such a time."""

import threading
import time
from types import TracebackType

BEAT = 0.05
STANDSTILL = 1.5
"""Seconds between two beats that no scheduler with four cores needs, however busy they are."""


class Heartbeat:
    """While the block runs a thread wakes every 50 ms; ``longest`` is the longest time it did not."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @property
    def stood_still(self) -> bool:
        """Whether what was measured must be measured again."""
        return self.longest > STANDSTILL

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(BEAT):
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now

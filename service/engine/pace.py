"""How fast an instance works, measured."""


class Pace:
    """How long the queue and an answer take, in seconds.

    Measured are the mean time between two requests that end while others wait, and from a request's first step to its end.
    """

    SMOOTHING = 0.05
    SURE = 64
    """A whole batch."""

    def __init__(self) -> None:
        self.run = 0.0
        self._between = 0.0
        self._last: float | None = None

    def ended(self, now: float, waiting: int) -> None:
        """A request ended at ``now``. An interval counts only if the queue was never empty in it."""
        if self._last is not None:
            self._between += self.SMOOTHING * (now - self._last - self._between)
        self._last = now if waiting else None

    def ran(self, seconds: float) -> None:
        """An answer took so long."""
        self.run += self.SMOOTHING * (seconds - self.run)

    def places(self, most: int, seconds: float) -> int:
        """How many may wait so that the last waits ``seconds``: at most ``most``, and ``SURE`` of them however slow it goes."""
        if seconds >= most * self._between:
            return most
        return min(most, max(self.SURE, int(seconds / self._between)))

    def wait(self, waiting: int) -> float:
        """Seconds that the last of ``waiting`` requests will wait; 0 before anything was measured."""
        return waiting * self._between

"""One budget for the bytes of all requests that are being received or held, by whichever transport."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from service.errors import Overloaded

RETRY_AFTER = 1.0
"""Seconds: pictures come and go within so long."""


class Budget:
    """Bounds what all requests together hold of a process' memory. None: without a bound."""

    def __init__(self, most: int | None = None, refused: Callable[[], None] = lambda: None) -> None:
        """``most``: bytes. ``refused`` is told of every request for which there was no room."""
        self.most = most
        self.held = 0
        self._refused = refused

    def hold(self) -> "Hold":
        """What one request holds: nothing yet."""
        return Hold(self)

    def check(self, count: int) -> None:
        """Whether there is room for so many bytes more. Errors: Overloaded."""
        if self.most is not None and self.held + count > self.most:
            self._refused()
            raise Overloaded("The requests that are being worked on hold all the memory that they may: try again soon.", RETRY_AFTER)


class Hold:
    """The bytes that one request holds; all are given back at the end of the ``with`` block."""

    def __init__(self, budget: Budget) -> None:
        self.bytes = 0
        self._budget = budget

    def check(self, count: int) -> None:
        """Whether there would be room for so many bytes more. Errors: Overloaded."""
        self._budget.check(count)

    def take(self, count: int) -> None:
        """Hold so many bytes more. Errors: Overloaded; then it holds what it held."""
        self._budget.check(count)
        self.bytes += count
        self._budget.held += count

    def keep(self, count: int) -> None:
        """Give back what is above so many bytes."""
        self.give(max(0, self.bytes - count))

    def give(self, count: int) -> None:
        """Give so many bytes back."""
        self.bytes -= count
        self._budget.held -= count

    @contextmanager
    def more(self, count: int) -> Iterator[None]:
        """Hold so many bytes more, until the end of the ``with`` block. Errors: Overloaded."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.keep(0)

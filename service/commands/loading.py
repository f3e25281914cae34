"""The bar that is drawn while models are read and warmed up."""

import sys
import threading
from contextlib import AbstractContextManager

from tqdm import tqdm

from service.observability.logs import is_terminal

EVERY = 0.5
"""Seconds after which the bar is drawn anew: its clock goes on, and a line of the log may have been written over it."""

LAYOUT = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}]"


class Loading(AbstractContextManager["Loading"]):
    """Is told of the parts of a start: see ``Begin``. Draws on standard error, where that is a terminal; else does nothing at all."""

    def __init__(self, shown: bool = True) -> None:
        self._ended = threading.Event()
        self._drawing = threading.Lock()
        self._bar = None
        if shown and is_terminal(sys.stderr):
            self._bar = tqdm(desc="starting", total=1, bar_format=LAYOUT, leave=False, file=sys.stderr, dynamic_ncols=True)
            # The thread that loads is busy for seconds.
            threading.Thread(target=self._draw, daemon=True).start()

    def __call__(self, part: str, done: int, of: int) -> None:
        """The bar goes away when all are done."""
        if self._bar is None:
            return
        if done == of:
            self.close()
        else:
            self._bar.total, self._bar.n = of, done
            self._bar.set_description_str(part)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        self._ended.set()
        if self._bar is not None:
            with self._drawing:
                self._bar.close()
                self._bar = None

    def _draw(self) -> None:
        while not self._ended.wait(EVERY):
            bar = self._bar
            if bar is not None:
                with self._drawing:
                    if not self._ended.is_set():
                        bar.refresh()

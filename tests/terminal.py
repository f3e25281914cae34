"""A terminal that a command writes to, in a process of its own: what a person would see, as bytes."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from contextlib import suppress

ROWS, COLUMNS = 40, 120


class Terminal:
    """``paliserve`` on a pseudo-terminal. ``text``: all that it wrote there so far."""

    def __init__(self, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | dict(environ or {})
        command = [sys.executable, "-m", "service.main", *arguments]
        self.text = ""
        self._more = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=kept, start_new_session=True)
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(ours,))
        self._reader.start()

    def wait_for(self, words: str, seconds: float = 100) -> None:
        """Until it has written them."""
        with self._more:
            assert self._more.wait_for(lambda: words in self.text or self._ended, seconds), self.text
            assert words in self.text, self.text

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, seconds: float = 100) -> int:
        """Its exit status, once it has ended."""
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()

    def _read(self, ours: int) -> None:
        # The system's way to say that nobody writes there any more.
        with suppress(OSError):
            while data := os.read(ours, 65_536):
                with self._more:
                    self.text += data.decode(errors="replace")
                    self._more.notify_all()
        os.close(ours)
        with self._more:
            self._ended = True
            self._more.notify_all()

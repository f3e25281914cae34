"""The fork server of the image workers and the workers themselves, seen from their parent."""

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from service.errors import ImageTooLarge, InvalidImage
from service.model.image_worker import ANSWER, FORK, FORKED, INVALID, READ, REQUEST
from service.model.images import ImageLimits, PixelFormat

PATIENCE = 30.0
"""Seconds within which a fork server must have made a worker, on a slow machine."""
PATIENCE_AT_END = 5.0
"""Seconds."""
_LONGEST_MESSAGE = 1000


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a picture: its (width, height) and, where they were asked for, the bytes of its pixels."""

    size: tuple[int, int]
    pixels: bytearray


class WorkerLink:
    """One worker and its socket. Belongs to one thread at a time."""

    def __init__(self, number: int, link: socket.socket) -> None:
        self.number = number
        self._link = link

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, or was ended and could not be replaced. One that waits has nothing to say."""
        try:
            self._link.settimeout(0)
            self._link.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def read(self, data: bytes, into: PixelFormat | None, seconds: float) -> Read:
        """Let the worker read a picture, its size only where ``into`` is None.

        Errors: InvalidImage, ImageTooLarge; TimeoutError; OSError where the process ended or answered nonsense. After those two it is of
        no more use.
        """
        deadline = time.monotonic() + seconds
        side, resample = (into.side, into.resample) if into else (0, 0)
        self._link.settimeout(seconds)
        self._link.sendall(REQUEST.pack(side, resample, len(data)))
        self._link.settimeout(max(0.0, deadline - time.monotonic()) or sys.float_info.min)
        self._link.sendall(data)
        kind, width, height, length = ANSWER.unpack(self._received(ANSWER.size, deadline))
        expected = 3 * side**2 if kind == READ else _LONGEST_MESSAGE
        if length > expected or (kind == READ and length < expected):
            raise ConnectionError("the answer has another length than it should have")
        content = self._received(length, deadline)
        if kind == READ:
            return Read((width, height), content)
        raise (InvalidImage if kind == INVALID else ImageTooLarge)(content.decode("utf-8", "replace"))

    def _received(self, count: int, deadline: float) -> bytearray:
        received = bytearray(count)
        view = memoryview(received)
        while view:
            self._link.settimeout(max(0.0, deadline - time.monotonic()) or sys.float_info.min)
            got = self._link.recv_into(view)
            if not got:
                raise ConnectionError("the process ended")
            view = view[got:]
        return received

    def close(self) -> None:
        """Let the process end."""
        self._link.close()


class ForkServer:
    """Makes workers in a few milliseconds each; starts with the first one. On any thread."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._program: _Program | None = None
        self._closed = False

    def fork(self, old: WorkerLink | None = None) -> tuple[WorkerLink, int]:
        """A new worker. ``old`` is ended first, whatever it does; its exit code comes too, negative for a signal.

        Errors: OSError where there can be none.
        """
        if old is not None:
            old.close()
        with self._lock:
            if self._closed:
                raise ConnectionError("the fork server was closed")
            if self._program is not None:
                try:
                    return self._program.fork(old)
                except BlockingIOError:
                    # Another server could have no process either, and with this one its workers would go, and the pictures in work there.
                    raise
                except OSError:
                    self._program.end()
            self._program = _Program(self._limits)
            return self._program.fork(None)

    def close(self) -> None:
        """End the server and all of its workers, whatever they do."""
        with self._lock:
            self._closed = True
            if self._program is not None:
                self._program.end()


class _Program:
    """The running fork server. Its workers do not outlive it."""

    def __init__(self, limits: ImageLimits) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(PATIENCE)
        # Nothing of the environment but what Python needs to find its modules: there may be keys in it.
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        numbers = [str(each) for each in (theirs.fileno(), limits.max_bytes, limits.max_pixels)]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", "-m", "service.model.image_worker", *numbers],
                    # Threads of libraries would not survive a fork, and there is no use for them.
                    env=kept | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
        except OSError:
            self._control.close()
            raise

    def fork(self, old: WorkerLink | None) -> tuple[WorkerLink, int]:
        """See ``ForkServer``."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [FORK.pack(old.number if old else 0)], [theirs.fileno()])
            answer = self._control.recv(FORKED.size)
            if len(answer) < FORKED.size:
                raise ConnectionError("the fork server ended")
            status, number = FORKED.unpack(answer)
            if not number:
                raise BlockingIOError("the fork server could make no process")
        except OSError:
            ours.close()
            raise
        return WorkerLink(number, ours), os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """It ends by itself when nobody is at the other end, unless it was stopped."""
        self._control.close()
        try:
            self._process.wait(PATIENCE_AT_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

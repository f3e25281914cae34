"""The processes that decode pictures, seen from inside: a fork server, and the workers it makes.

A codec that a picture takes over must find nothing worth having. So the fork server is a fresh program, not a copy of the server's process:
it has imported what decoding needs, and knows no key, no model and no other caller's picture. A worker gives up all that decoding does not
need before it reads its first byte. Answers are plain numbers and bytes: pickled objects would run as code where they are read.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageMode,
    ImagePalette,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from service.errors import ImageTooLarge, InvalidImage
from service.model.images import ImageLimits, ImageReader, PixelFormat

REQUEST = struct.Struct("=IIQ")
"""Side of the square (0: only the picture's size is asked for), filter, bytes of the file, which follows."""
ANSWER = struct.Struct("=IIIQ")
"""One of the kinds below, width, height, bytes of what follows: pixels, or a message."""
READ, INVALID, TOO_LARGE = range(3)

FORK = struct.Struct("=i")
"""The process id of the worker to be ended first, 0 for none. The socket of the new one comes with it."""
FORKED = struct.Struct("=ii")
"""How the old one ended (a wait status), and the process id of the new one, 0 where there could be none."""

IMPORTED = (
    *(BmpImagePlugin, GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin),
    *(ImageCms, ImageMode, ImagePalette),
)
"""What reads ``FORMATS``, some of which Pillow would import when it first needs it: a worker can open no file."""
_SET_PARENT_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38


def memory_bytes(limits: ImageLimits) -> int:
    """The most that a worker may take to decode one picture.

    Measured: up to 16 bytes a pixel, of a WebP with transparency; a tenth more is to spare. Three times the file, and small things.
    """
    return 18 * limits.max_pixels + 3 * limits.max_bytes + 64_000_000


def main(control: socket.socket, limits: ImageLimits) -> None:
    """Be the fork server until the parent closes its end of ``control``."""
    # A terminal sends Ctrl-C to the whole group; the parent decides when its workers end.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    Image.preinit()
    confine = _confinement(memory_bytes(limits))
    workers: set[int] = set()
    gc.freeze()
    while True:
        message, files, _, _ = socket.recv_fds(control, FORK.size, 1)
        if len(message) < FORK.size:
            break
        (ended,) = FORK.unpack(message)
        status = _end(ended, workers)
        number = _fork(control, files[0], lambda link: _work(link, ImageReader(limits), confine))
        os.close(files[0])
        if number:
            workers.add(number)
        control.sendall(FORKED.pack(status, number))
    for number in list(workers):
        _end(number, workers)


def _end(number: int, workers: set[int]) -> int:
    """Its wait status. Nobody else waits for it, so that its process id is its own until then."""
    if number not in workers:
        return 0
    workers.remove(number)
    os.kill(number, signal.SIGKILL)
    return os.waitpid(number, 0)[1]


def _fork(control: socket.socket, file: int, work: Callable[[socket.socket], None]) -> int:
    try:
        number = os.fork()
    except OSError:
        return 0
    if number == 0:
        try:
            control.close()
            work(socket.socket(fileno=file))
        finally:
            os._exit(1)
    return number


def _work(link: socket.socket, reader: ImageReader, confine: Callable[[], None]) -> None:
    """Answer requests until the parent closes its end."""
    confine()
    while head := link.recv(REQUEST.size, socket.MSG_WAITALL):
        side, resample, length = REQUEST.unpack(head)
        data = link.recv(length, socket.MSG_WAITALL)
        kind, size, content = _answer(reader, data, PixelFormat(side, resample))
        link.sendall(ANSWER.pack(kind, *size, len(content)))
        link.sendall(content)
        # A TIFF lies in a circle of references, and so would keep its pixels.
        del data, content
        gc.collect()
    os._exit(0)


def _answer(reader: ImageReader, data: bytes, into: PixelFormat) -> tuple[int, tuple[int, int], bytes]:
    try:
        if not into.side:
            return READ, reader.size(data), b""
        squeezed = reader.squeezed(data, into)
        return READ, squeezed.size, squeezed.pixels.tobytes()
    except InvalidImage as error:
        return INVALID, (0, 0), error.message.encode()
    except ImageTooLarge as error:
        return TOO_LARGE, (0, 0), error.message.encode()


def _confinement(memory: int) -> Callable[[], None]:
    """What makes a process unable to do anything but decode: to open or write a file, to start a program, to take more memory."""
    server = os.getpid()
    set_process = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def confine() -> None:
        if set_process is not None:
            set_process(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            set_process(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            if os.getppid() != server:
                os._exit(1)
            # The first to go where memory runs out: it costs one picture.
            with suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")
        # A codec writes what it likes to standard error.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        os.close(nowhere)
        most = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NPROC: 0, resource.RLIMIT_NOFILE: 0}
        if held := _held_bytes():
            most[resource.RLIMIT_AS] = held + memory
        for each, limit in most.items():
            before = resource.getrlimit(each)[1]
            allowed = limit if before == resource.RLIM_INFINITY else min(limit, before)
            resource.setrlimit(each, (allowed, allowed))

    return confine


def _held_bytes() -> int:
    """Addresses in use; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


if __name__ == "__main__":
    _control, _max_bytes, _max_pixels = (int(each) for each in sys.argv[1:])
    main(socket.socket(fileno=_control), ImageLimits(_max_bytes, _max_pixels))

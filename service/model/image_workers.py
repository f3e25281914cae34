"""Pictures decoded in processes of their own: a codec that crashes, or never ends, costs its own request and no other.

A worker decodes one picture at a time. So the pictures in work take no more memory than one may take, times the workers; further ones wait.
"""

import logging
from collections.abc import Callable
from queue import LifoQueue

import numpy as np

from service.errors import InvalidImage, ModelNotReady, OperatorError
from service.model.image_worker_link import ForkServer, Read, WorkerLink
from service.model.images import ImageLimits, PixelFormat, Squeezed

logger = logging.getLogger(__name__)


class ImageWorkers:
    """The ``Images`` over ``count`` processes, which may take ``seconds`` for a picture.

    On more threads than that, a call waits for its turn. A worker that dies or takes too long is replaced before its caller is told, and
    ``replaced`` hears why: "crashed", "too_slow", or "idle" where it died between two pictures.
    """

    def __init__(self, count: int, limits: ImageLimits, seconds: float, replaced: Callable[[str], None] = lambda reason: None) -> None:
        self._count = count
        self._limits = limits
        self._seconds = seconds
        self._replaced = replaced
        self._closed = False
        self._server = ForkServer(limits)
        # The last one first, whose memory is warm.
        self._idle: LifoQueue[WorkerLink] = LifoQueue()

    def start(self) -> None:
        """Make the processes. Errors: OperatorError."""
        try:
            for _ in range(self._count):
                self._idle.put(self._server.fork()[0])
        except OSError as error:
            self.close()
            raise OperatorError(f"the image workers cannot be started: {error}. image_workers = 0 decodes without them.") from error

    def size(self, data: bytes) -> tuple[int, int]:
        """See ``Images``."""
        return self._read(data, None).size

    def squeezed(self, data: bytes, into: PixelFormat) -> Squeezed:
        """See ``Images``."""
        read = self._read(data, into)
        return Squeezed(np.frombuffer(read.pixels, np.uint8).reshape(into.side, into.side, 3), read.size)

    def close(self) -> None:
        """End the processes at once, whatever they do."""
        self._closed = True
        self._server.close()
        while not self._idle.empty():
            self._idle.get().close()

    def _read(self, data: bytes, into: PixelFormat | None) -> Read:
        self._limits.check_bytes(data)
        worker = self._idle.get()
        try:
            if worker.is_gone:
                worker = self._successor(worker, "idle", data)
            try:
                return worker.read(data, into, self._seconds)
            except TimeoutError:
                worker = self._successor(worker, "too_slow", data)
                raise InvalidImage(
                    f"The image was not decoded within {self._seconds:g} s: save it anew, with fewer pixels or as a plain (baseline) JPEG."
                ) from None
            except OSError:
                # Nothing else was in work there: it was this picture, and would be again.
                worker = self._successor(worker, "crashed", data)
                raise InvalidImage("The image cannot be decoded: it ends its decoder. Save it anew.") from None
        finally:
            if self._closed:
                worker.close()
            self._idle.put(worker)

    def _successor(self, worker: WorkerLink, reason: str, data: bytes) -> WorkerLink:
        """Errors: ModelNotReady, where there is none."""
        try:
            successor, code = self._server.fork(worker)
        except OSError as error:
            logger.error("an image worker cannot be replaced: %s", error)
            raise ModelNotReady("Images cannot be decoded at the moment: try again in a few seconds.") from None
        logger.error("an image worker was replaced: %s, exit code %d, over a file of %d bytes", reason, code, len(data))
        self._replaced(reason)
        return successor

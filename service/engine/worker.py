"""A process that runs a device's generations, seen from inside. What goes through its pipe stands here too."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, MutableSequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from service.engine.device import MakeRunner, Report, RunnerFacts, Submission
from service.engine.device_loop import DeviceLoop
from service.engine.generation import Picture
from service.errors import OperatorError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """Load an instance."""

    instance: str
    make: MakeRunner
    prefill_tokens: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """It is loaded, or could not be."""

    instance: str
    facts: RunnerFacts | OperatorError


@dataclass(frozen=True, slots=True)
class Unload:
    """Drop an instance."""

    instance: str


@dataclass(frozen=True, slots=True)
class Unloaded:
    """It is dropped."""

    instance: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put an adapter to a place of an instance's."""

    instance: str
    place: int
    folder: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """Empty a place."""

    instance: str
    place: int


@dataclass(frozen=True, slots=True)
class Changed:
    """An adapter has come or gone, or could not come."""

    error: OperatorError | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """Queue a generation. Its pictures come without pixels where the worker has them already."""

    instance: str
    submission: Submission


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop a generation."""

    instance: str
    number: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Nobody will ask about this picture again."""

    picture: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish what was accepted, then end."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What happened on an instance."""

    instance: str
    report: Report


ToWorker = Load | Unload | Adopt | Abandon | Submit | Cancel | Forget | Stop
FromWorker = Loaded | Unloaded | Changed | Reported


@dataclass(frozen=True, slots=True)
class Board:
    """Memory that the workers of a device and their parent share.

    When each one's running step began (0 where none runs), what each holds of main memory, and an accelerator's used memory and all of it.
    """

    stepping: MutableSequence[float]
    resident: MutableSequence[float]
    memory: MutableSequence[float]
    threads: int

    def share_of_threads(self) -> int:
        """Threads for each of those who work at this moment."""
        return max(1, self.threads // max(1, sum(1 for began in self.stepping if began)))


def work(pipe: Connection, board: Board, seat: int, begin: Callable[[], None]) -> None:
    """Do what the parent says until it stops this process or is gone."""
    # A terminal sends Ctrl-C to the whole group; the parent decides when its workers end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    begin()
    threading.excepthook = lambda failed: _end(failed.exc_value)
    _Worker(pipe, board, seat).run()
    # No thread of a library may hold up the end.
    os._exit(0)


def freeze() -> None:
    """What was made until now stays: the collector of garbage need not look at it again and again, which stops everything meanwhile."""
    gc.collect()
    gc.freeze()


def thaw() -> None:
    """What was given up since ``freeze`` is looked for once, then the rest is kept out of the collector's way again."""
    gc.unfreeze()
    freeze()


def _resident_bytes() -> int:
    """Main memory that this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _end(error: BaseException | None) -> None:
    """Without one of its threads a worker would only look alive; its parent replaces it."""
    logger.error("a thread of the worker failed", exc_info=error)
    os._exit(1)


def _check(done: Future[None]) -> None:
    if (error := done.exception()) is not None:
        _end(error)


class _Worker:
    """Reads the pipe and keeps it moving: instances and adapters, which take seconds to load, come and go in a thread of their own."""

    def __init__(self, pipe: Connection, board: Board, seat: int) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        self._pictures: dict[int, Picture] = {}
        self._changes = ThreadPoolExecutor(1, "changes")
        self._board, self._seat = board, seat
        self._loop = DeviceLoop(
            threads=board.share_of_threads, stepping=lambda began: board.stepping.__setitem__(seat, began), measured=self._measured
        )

    def run(self) -> None:
        self._loop.start()
        while True:
            try:
                message: ToWorker = self._pipe.recv()
            except (EOFError, OSError):
                return
            match message:
                case Load() | Unload() | Adopt() | Abandon():
                    self._changes.submit(self._change, message).add_done_callback(_check)
                case Submit():
                    self._loop.submit(message.instance, self._with_pictures(message.submission))
                case Cancel():
                    self._loop.cancel(message.instance, message.number)
                case Forget():
                    self._pictures.pop(message.picture, None)
                case Stop():
                    self._loop.stop()
                    return

    def _change(self, message: Load | Unload | Adopt | Abandon) -> None:
        match message:
            case Load():
                self._load(message)
            case Unload():
                self._loop.unload(message.instance)
                thaw()
                self._send(Unloaded(message.instance))
            case Adopt():
                self._send(Changed(self._adopt(message)))
            case Abandon():
                self._loop.abandon(message.instance, message.place)
                self._send(Changed())

    def _measured(self, memory: tuple[int, int] | None) -> None:
        self._board.resident[self._seat] = _resident_bytes()
        if memory is not None:
            self._board.memory[:] = memory

    def _load(self, message: Load) -> None:
        instance = message.instance
        try:
            facts = self._loop.load(instance, message.make, message.prefill_tokens, lambda report: self._send(Reported(instance, report)))
        except OperatorError as error:
            self._send(Loaded(instance, error))
        except Exception:
            logger.exception("%s cannot be loaded", instance)
            self._send(Loaded(instance, OperatorError(f"{instance} cannot be loaded; the log says why.")))
        else:
            freeze()
            self._send(Loaded(instance, facts))

    def _adopt(self, message: Adopt) -> OperatorError | None:
        try:
            self._loop.adopt(message.instance, message.place, message.folder)
        except OperatorError as error:
            return error
        except Exception:
            logger.exception("an adapter of %s cannot be loaded", message.instance)
            return OperatorError(f"The adapter cannot be loaded on {message.instance}; the log says why.")
        return None

    def _with_pictures(self, submission: Submission) -> Submission:
        """The same with this process's own pictures, which may be encoded already."""
        generation = submission.generation
        pictures = tuple(self._pictures.setdefault(sent.number, sent) for sent in generation.prompt.pictures)
        return replace(submission, generation=replace(generation, prompt=replace(generation.prompt, pictures=pictures)))

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            self._pipe.send(message)

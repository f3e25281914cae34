"""Real processes that decode pictures, and everything that may happen to them."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.errors import ImageTooLarge, InvalidImage, ModelNotReady
from service.model.image_worker import FORK, FORKED
from service.model.image_workers import ImageWorkers
from service.model.images import ImageLimits, ImageReader, PixelFormat, Squeezed
from tests.pictures import LEAKS, MODES_AND_FORMATS, noise, orientation_tag, saved

INTO = PixelFormat(32)
PICTURE = saved(noise("RGB", 40, 30), "PNG")
EXPECTED = ImageReader(ImageLimits()).squeezed(PICTURE, INTO)
PATIENCE = 60


class Bench:
    """Two workers and two threads that ask them; ``replaced`` holds why workers were replaced."""

    def __init__(self, seconds: float = PATIENCE, limits: ImageLimits | None = None) -> None:
        self.replaced: list[str] = []
        self.workers = ImageWorkers(2, limits or ImageLimits(), seconds, self.replaced.append)
        self.workers.start()
        self.threads = ThreadPoolExecutor(2)

    @property
    def server(self) -> psutil.Process:
        """The fork server."""
        program = self.workers._server._program
        assert program
        return psutil.Process(program._process.pid)

    @property
    def processes(self) -> list[psutil.Process]:
        """The workers."""
        return list(self.server.children())

    def ask(self, data: bytes = PICTURE) -> Future[Squeezed]:
        return self.threads.submit(self.workers.squeezed, data, INTO)

    def close(self) -> None:
        self.workers.close()
        self.threads.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture(scope="module")
def steady() -> Iterator[Bench]:
    """For those who do no harm."""
    made = Bench()
    yield made
    assert made.replaced == []
    made.close()


def until(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to that")
        threading.Event().wait(0.005)


def is_stopped(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)


def kill(*processes: psutil.Process) -> None:
    """Their parent has not heard of it yet."""
    for each in processes:
        each.kill()
    until(lambda: all(each.status() == psutil.STATUS_ZOMBIE for each in processes))


def is_confined(worker: psutil.Process) -> bool:
    """The last of what it gives up is gone."""
    return bool(worker.rlimit(psutil.RLIMIT_AS)[1] != psutil.RLIM_INFINITY)


def stop(*processes: psutil.Process) -> None:
    for each in processes:
        each.send_signal(signal.SIGSTOP)
    until(lambda: all(is_stopped(each) for each in processes))


def assert_is_the_picture(squeezed: Squeezed) -> None:
    assert squeezed.size == EXPECTED.size
    assert np.array_equal(squeezed.pixels, EXPECTED.pixels)


# --- the same as in this process ---


@pytest.mark.parametrize(("mode", "name"), MODES_AND_FORMATS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_pictures_are_those_of_the_reader(steady: Bench, mode: str, name: str, orientation: int) -> None:
    data = saved(noise(mode, 61, 40), name, **({"exif": orientation_tag(orientation)} if orientation > 1 and name != "BMP" else {}))
    reader = ImageReader(ImageLimits())
    expected, found = reader.squeezed(data, INTO), steady.workers.squeezed(data, INTO)
    assert steady.workers.size(data) == found.size == expected.size
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.pixels.flags.writeable


@pytest.mark.parametrize("data", [b"", b"GIF89a", PICTURE[:-200], b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(30_000_000)])
def test_threat_08_refusals_are_those_of_the_reader(steady: Bench, data: bytes) -> None:
    messages = []
    for images in (ImageReader(ImageLimits()), steady.workers):
        with pytest.raises((InvalidImage, ImageTooLarge)) as error:
            images.squeezed(data, INTO)
        messages.append((type(error.value), error.value.message))
    assert messages[0] == messages[1]
    assert not LEAKS.search(messages[-1][1])


def test_many_pictures_at_once_are_told_apart(steady: Bench) -> None:
    pictures = [saved(noise("RGB", 20 + seed, 30, seed), "PNG") for seed in range(40)]
    reader = ImageReader(ImageLimits())
    with ThreadPoolExecutor(8) as threads:
        for data, found in zip(pictures, threads.map(lambda data: steady.workers.squeezed(data, INTO), pictures), strict=True):
            assert np.array_equal(found.pixels, reader.squeezed(data, INTO).pixels)


# --- what happens to processes ---


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_threat_04_a_codec_that_crashes_costs_its_own_request_only(bench: Bench, number: signal.Signals) -> None:
    first, second = bench.processes
    stop(first, second)
    asked = [bench.ask(), bench.ask()]
    until(bench.workers._idle.empty)
    second.send_signal(signal.SIGCONT)
    until(lambda: any(each.done() for each in asked))
    spared, struck = sorted(asked, key=lambda each: not each.done())
    assert_is_the_picture(spared.result())
    first.send_signal(number)
    first.send_signal(signal.SIGCONT)
    with pytest.raises(InvalidImage, match="ends its decoder") as error:
        struck.result(PATIENCE)
    assert not LEAKS.search(error.value.message)
    assert bench.replaced == ["crashed"]
    assert second in bench.processes
    assert len(bench.processes) == 2
    for each in [bench.ask() for _ in range(8)]:
        assert_is_the_picture(each.result(PATIENCE))
    assert bench.replaced == ["crashed"]


def test_threat_05_a_decode_that_never_ends_is_cut() -> None:
    bench = Bench(seconds=0.2)
    try:
        stuck = bench.processes
        stop(*stuck)
        for each in [bench.ask(), bench.ask()]:
            with pytest.raises(InvalidImage, match=r"not decoded within 0\.2 s"):
                each.result(PATIENCE)
        assert bench.replaced == ["too_slow"] * 2
        assert not any(each.is_running() for each in stuck)
        # A busy machine may take longer than that over an honest picture too.
        bench.workers._seconds = PATIENCE
        for each in [bench.ask() for _ in range(4)]:
            assert_is_the_picture(each.result(PATIENCE))
    finally:
        bench.close()


def test_a_worker_that_died_between_two_pictures_costs_nobody(bench: Bench) -> None:
    kill(*bench.processes)
    for asked in [bench.ask() for _ in range(4)]:
        assert_is_the_picture(asked.result(PATIENCE))
    assert bench.replaced == ["idle"] * 2


def test_without_the_fork_server_there_is_another_one(bench: Bench) -> None:
    server, workers = bench.server, bench.processes
    server.kill()
    # Its workers do not outlive it: they would be nobody's.
    psutil.wait_procs(workers, timeout=PATIENCE)
    assert_is_the_picture(bench.ask().result(PATIENCE))
    assert bench.server != server


def test_where_no_process_can_be_had_callers_are_told_to_come_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("no process")

    monkeypatch.setattr(bench.workers._server, "fork", fail)
    kill(*bench.processes)
    with pytest.raises(ModelNotReady, match="try again"):
        bench.ask().result(PATIENCE)
    monkeypatch.undo()
    assert_is_the_picture(bench.ask().result(PATIENCE))


def test_who_could_not_be_replaced_is_with_the_next_picture(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    bench.server.kill()
    psutil.wait_procs(bench.processes, timeout=PATIENCE)
    monkeypatch.setattr("service.model.image_worker_link.subprocess.Popen", fail)
    for _ in range(4):
        with pytest.raises(ModelNotReady, match="try again"):
            bench.ask().result(PATIENCE)
    monkeypatch.undo()
    for asked in [bench.ask() for _ in range(4)]:
        assert_is_the_picture(asked.result(PATIENCE))


def test_a_fork_server_that_can_have_no_process_keeps_those_that_are_there(bench: Bench) -> None:
    server, program = bench.server, bench.workers._server._program
    assert program
    real = program._control
    program._control, other_end = socket.socketpair()
    other_end.settimeout(PATIENCE)

    def refuse() -> None:
        os.close(socket.recv_fds(other_end, FORK.size, 1)[1][0])
        other_end.sendall(FORKED.pack(0, 0))

    with other_end, program._control:
        refusing = threading.Thread(target=refuse)
        refusing.start()
        gone, busy = bench.processes
        stop(busy)
        kill(gone)
        asked = [bench.ask() for _ in range(2)]
        refusing.join(PATIENCE)
        until(lambda: any(each.done() for each in asked))
        busy.send_signal(signal.SIGCONT)
        failed = [type(each.exception(PATIENCE)) for each in asked]
        assert failed.count(ModelNotReady) == 1
        assert failed.count(type(None)) == 1, "the other worker was ended too"
    program._control = real
    assert_is_the_picture(bench.ask().result(PATIENCE))
    assert bench.server == server


def test_signals_of_a_terminal_are_for_the_parent(bench: Bench) -> None:
    before = bench.processes
    for each in (bench.server, *before):
        each.send_signal(signal.SIGINT)
        each.send_signal(signal.SIGTERM)
    for asked in [bench.ask() for _ in range(4)]:
        assert_is_the_picture(asked.result(PATIENCE))
    assert bench.processes == before


def test_closing_ends_what_is_in_work() -> None:
    bench = Bench()
    processes = [bench.server, *bench.processes]
    stop(*bench.processes)
    asked = bench.ask()
    until(lambda: asked.running() and bench.workers._idle.qsize() == 1)
    bench.close()
    with pytest.raises(ModelNotReady):
        asked.result(PATIENCE)
    assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]


PARENT = """
import os, sys
from service.model.image_worker import FORK, FORKED
from service.model.image_workers import ImageWorkers
from service.model.images import ImageLimits
workers = ImageWorkers(2, ImageLimits(), 10)
workers.start()
print(os.getpid(), flush=True)
sys.stdin.readline()
raise SystemExit(3)
"""


@pytest.mark.parametrize("how", [None, signal.SIGKILL])
def test_no_process_outlives_a_parent_that_fails(how: signal.Signals | None) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdin
        parent.stdout.readline()
        processes = psutil.Process(parent.pid).children(recursive=True)
        assert len(processes) == 3
        stop(processes[-1])
        if how:
            parent.send_signal(how)
        parent.stdin.close()
        assert parent.wait(PATIENCE) == (-how if how else 3)
    assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]


# --- what a codec that was taken over finds ---


def test_threat_04_a_worker_has_given_up_what_decoding_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALISERVE_ADMIN_KEY", "secret")
    bench = Bench()
    try:
        for worker in bench.processes:
            until(partial(is_confined, worker))
            held = worker.memory_info().vms
            assert worker.rlimit(psutil.RLIMIT_NOFILE) == worker.rlimit(psutil.RLIMIT_NPROC) == (0, 0)
            assert worker.rlimit(psutil.RLIMIT_CORE) == worker.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
            assert worker.rlimit(psutil.RLIMIT_AS)[1] < held + 1_500_000_000
            with open(f"/proc/{worker.pid}/status", encoding="ascii") as status:
                assert "NoNewPrivs:\t1" in status.read()
            assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text() == "1000\n"
            assert not any("torch" in each.path for each in worker.memory_maps())
            assert {"PALISERVE_ADMIN_KEY", "secret"}.isdisjoint(worker.environ())
            assert not worker.open_files()
            assert worker.num_fds() == 4
    finally:
        bench.close()


def test_threat_04_memory_is_bounded_and_nothing_can_be_opened() -> None:
    program = (
        # A worker whose parent is not the one that it was made by ends itself.
        "import os, socket\nos.getppid = os.getpid\nfrom service.model.image_worker import _confinement\n"
        "_confinement(50_000_000)()\n"
        "def refused(attempt):\n    try:\n        attempt()\n    except (MemoryError, OSError):\n        return True\n"
        "wanted = [lambda: bytes(60_000_000), lambda: open('/etc/hostname'), socket.socket, os.pipe]\n"
        "os._exit(0 if all([refused(each) for each in wanted]) and bytes(10_000_000) else 1)\n"
    )
    environ = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", program], check=False, env=environ, timeout=PATIENCE).returncode == 0


def test_threat_01_a_picture_that_takes_too_much_memory_is_refused() -> None:
    """An honest worker's memory never runs out; the message is what matters when it does."""
    bench = Bench(limits=ImageLimits(max_pixels=1_000_000))
    try:
        for each in bench.processes:
            each.rlimit(psutil.RLIMIT_AS, (each.memory_info().vms + 6_000_000,) * 2)
        large = saved(noise("RGBA", 1000, 1000), "PNG")
        with pytest.raises(InvalidImage, match="too much memory"):
            bench.ask(large).result(PATIENCE)
        assert_is_the_picture(bench.ask().result(PATIENCE))
        assert bench.replaced == []
    finally:
        bench.close()

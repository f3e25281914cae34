"""What a hostile request costs the server, beside what it costs its sender and what honest ones cost: ``python -m tests.amplification``.

Envoy's rule: no request may cost a hundred times the memory that it was configured to take, or a hundred times its sender's processor time.
A request that asks for inference costs more than its sender spends by design: twelve kilobytes are sent in half a millisecond and answered
in twenty. So the time is held against that of honest requests: what each one asked for may cost a hundred of them at most.

Memory is the rise of the server's highest resident memory, over all its processes, above what it held before. What it was configured to
take of a request: the largest body three times over (as it came, read, decoded), and for each core one picture with ``max_image_pixels``
twice over (as it is decoded, and turned or made smaller) at four bytes a pixel.
"""

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from service.machine import cores
from service.settings import Settings
from service.transports.rest.bodies import largest_body
from tests.end_to_end.conftest import CHECKPOINT, NEVER_WRITTEN, Server
from tests.hostile_requests import Hostile, Request

LIMITS = Settings()
CONFIGURED_BYTES = 3 * largest_body(LIMITS.max_image_bytes) + cores() * 2 * 4 * LIMITS.max_image_pixels
HONEST_REQUESTS = 20
SAMPLED_EVERY = 0.005
"""Seconds. The highest memory of a process is kept by the system; between samples a process could only begin and end unseen."""

MOST = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request. ``asked`` inferences are asked for in it; bytes, and seconds of processor time."""

    name: str
    asked: int
    sent_bytes: int
    sender_seconds: float
    server_seconds: float
    memory_bytes: int

    @property
    def memory_ratio(self) -> float:
        """To what a request was configured to take."""
        return self.memory_bytes / CONFIGURED_BYTES

    def time_ratio(self, honest: float) -> float:
        """To as many honest requests, each of ``honest`` seconds, as are asked for in it."""
        return self.server_seconds / (honest * max(1, self.asked))


class Meter:
    """Watches a server and all its processes."""

    def __init__(self, server: Server) -> None:
        self._server = psutil.Process(server.process.pid)
        self._peaks: dict[int, int] = {}

    def measure(self, name: str, request: Request) -> Cost:
        """Send it, and wait for its end."""
        before = {each.pid: each.memory_info().rss for each in self._processes()}
        for pid in before:
            # The system begins to look for the highest anew.
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._peaks = {}
        ended, spent = threading.Event(), [0.0]
        sampler = threading.Thread(target=self._sample, args=(ended, spent))
        sampler.start()
        began, sender = self._seconds(), time.process_time()
        try:
            sent = request.send()
        finally:
            ended.set()
            sampler.join()
        sender_seconds = max(time.process_time() - sender - spent[0], 0.0)
        self._look()
        rise = sum(max(0, peak - before.get(pid, 0)) for pid, peak in self._peaks.items())
        return Cost(name, request.asked, sent, sender_seconds, self._seconds() - began, rise)

    def _sample(self, ended: threading.Event, spent: list[float]) -> None:
        while not ended.wait(SAMPLED_EVERY):
            self._look()
        spent[0] = time.thread_time()

    def _look(self) -> None:
        for each in self._processes():
            with suppress(OSError, StopIteration, psutil.Error):
                lines = Path(f"/proc/{each.pid}/status").read_text().splitlines()
                highest = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
                self._peaks[each.pid] = max(self._peaks.get(each.pid, 0), highest)

    def _seconds(self) -> float:
        total = 0.0
        for each in self._processes():
            with suppress(psutil.Error):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    def _processes(self) -> list[psutil.Process]:
        return [self._server, *self._server.children(recursive=True)]


def measured(server: Server, told: Callable[[str], None] = lambda name: None) -> tuple[float, list[Cost]]:
    """Processor seconds of an honest request, and what each hostile one costs."""
    meter, hostile = Meter(server), Hostile(server)
    honest = hostile.honest()
    for _ in range(3):
        honest.send()
    mean = sum(meter.measure("honest", honest).server_seconds for _ in range(HONEST_REQUESTS)) / HONEST_REQUESTS
    costs = []
    for name, request in hostile.requests().items():
        costs.append(meter.measure(name, request))
        told(name)
    hostile.close()
    return mean, costs


def table(honest: float, costs: list[Cost]) -> str:
    """The worst last."""
    lines = [
        f"an honest request: {1000 * honest:.0f} ms of the server's processors; a request may take {CONFIGURED_BYTES / 1e6:.0f} MB",
        "| request | sent kB | memory MB | of what it may | server ms | of honest requests | of its sender |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in sorted(costs, key=lambda cost: max(cost.memory_ratio * MOST, cost.time_ratio(honest))):
        memory = f"{each.memory_bytes / 1e6:.0f} | {each.memory_ratio:.2f} ×"
        sender = each.server_seconds / max(each.sender_seconds, 1e-3)
        seconds = f"{1000 * each.server_seconds:.0f} | {each.time_ratio(honest):.1f} × | {sender:.0f} ×"
        lines += [f"| {each.name} | {each.sent_bytes / 1e3:.1f} | {memory} | {seconds} |"]
    return "\n".join(lines)


def settings(folder: Path) -> str:
    """Of one small instance that never ends an answer by itself, and remembers no picture."""
    shutil.copytree(CHECKPOINT, folder / "model")
    generation = folder / "model" / "generation_config.json"
    generation.write_text(json.dumps(json.loads(generation.read_text()) | {"eos_token_id": NEVER_WRITTEN}))
    config = folder / "paliserve.toml"
    config.write_text(f'workers = 1\n[[instances]]\nname = "shapes-224"\nsource = "{folder / "model"}"\nvision_cache_bytes = 0\n')
    return str(config)


def main() -> int:
    """Returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server("--config", settings(Path(folder)))
        try:
            honest, costs = measured(server, lambda name: print(f"… {name}", file=sys.stderr))
        finally:
            server.close()
    print(table(honest, costs))
    return int(any(each.memory_ratio > 1 or each.time_ratio(honest) > MOST for each in costs))


if __name__ == "__main__":
    sys.exit(main())

"""The server under more than it can carry: open loop at 1, 2, 5 and 10 times its capacity, and what is left of its service then.

``python -m load_tests.overload``. The server has all cores but one, the client has that one: who sends ten times too much must not take the
processor from who answers.
"""

import argparse
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import service.demo
from load_tests.report import publish, table
from load_tests.rivals.servers import Server, free_port
from load_tests.rivals.workloads import take
from load_tests.soak.census import holdings
from service.bench.arrivals import poisson
from service.bench.figures import percentile
from service.bench.http_connection import HttpServer
from service.bench.load_generator import ClosedLoop, OpenLoop, Reply, run_closed, run_open

LOADS = (1.0, 2.0, 5.0, 10.0)
"""Times the capacity."""

CALM = 0.5
"""The load before and after a storm."""

BEFORE, AFTER = 10.0, 8.0
"""Seconds of it."""

TIMEOUT = 5.0
"""Seconds that each request may take."""

SETTLING = 5.0
"""Seconds of a storm that are not measured: its queue has to fill first."""

BIN = 0.5
"""Seconds over which recovery is looked at."""

REFERENCE = 6.0
"""Seconds of each closed loop."""

POOL = 1500
"""Requests, all about pictures of their own; they come again, and nothing is cached."""

CONFIG = """[[instances]]
name = "shapes-224"
source = "{source}"
vision_cache_bytes = 0
"""


@dataclass(frozen=True, slots=True)
class Storm:
    """One load. Rates are per second, times in seconds, memory is that of all the server's processes in bytes.

    ``capacity``: what a closed loop got just before the storm and just after it, because a shared machine is not always as fast. ``good``:
    answers in time. ``others``: replies that are neither answers nor refusals, or none. ``recovery``: from the storm's end until nobody was
    refused, and half a second was no worse than twice the worst of the calm before.
    """

    load: float
    capacity: float
    offered: float
    good: float
    answered_p50: float
    answered_p99: float
    refused: int
    refused_p50: float
    refused_p99: float
    others: int
    memory_before: int
    memory_most: int
    memory_after: int
    recovery: float


class Watch:
    """Looks at the memory of a server's processes twice a second."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: list[int] = []

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self.seen.append(sum(held.pss for held in holdings(self._server.group).values()))


def schedule(capacity: float, load: float, seconds: float, seed: int) -> list[float]:
    """Moments of arrivals: calm, storm, calm."""
    calm, storm = CALM * capacity, load * capacity
    before = poisson(calm, BEFORE, seed)
    during = [BEFORE + moment for moment in poisson(storm, seconds, seed + 1)]
    after = [BEFORE + seconds + moment for moment in poisson(calm, AFTER, seed + 2)]
    return [*before, *during, *after]


def measure(load: float, capacity: float, seconds: float, replies: Sequence[Reply], memory: Sequence[int]) -> Storm:
    """The figures of a storm of so many ``seconds``."""
    began, ended = BEFORE + SETTLING, BEFORE + seconds
    during = [each for each in replies if began <= each.due < ended]
    answered = [each.latency for each in during if each.status == 200]
    refused = [each.latency for each in during if each.status == 503]
    in_time = sum(1 for each in replies if each.status == 200 and each.latency <= TIMEOUT and began <= each.ended < ended)
    normal = max(median for _, median in _bins(replies, 0.0, BEFORE))
    return Storm(
        load=load,
        capacity=capacity,
        offered=len(during) / (ended - began),
        good=in_time / (ended - began),
        answered_p50=percentile(answered, 0.5),
        answered_p99=percentile(answered, 0.99),
        refused=len(refused),
        refused_p50=percentile(refused, 0.5),
        refused_p99=percentile(refused, 0.99),
        others=len(during) - len(answered) - len(refused),
        memory_before=memory[int(BEFORE)],
        memory_most=max(memory),
        memory_after=memory[-1],
        recovery=recovery(replies, ended, 2 * normal),
    )


def recovery(replies: Sequence[Reply], ended: float, slow: float) -> float:
    """Seconds after ``ended`` until requests are all answered, and their median latency in each ``BIN`` is not ``slow``."""
    return max((number * BIN for number, median in _bins(replies, ended, ended + AFTER) if median > slow), default=0.0)


def _bins(replies: Sequence[Reply], begin: float, end: float) -> list[tuple[int, float]]:
    """Of each ``BIN`` in which something was sent its number, from 1, and its median latency, infinite where not all was answered."""
    bins = []
    for number in range(int((end - begin) / BIN)):
        sent = [each for each in replies if number * BIN <= each.due - begin < (number + 1) * BIN]
        answered = all(each.status == 200 for each in sent)
        if sent:
            bins.append((number + 1, percentile([each.latency for each in sent], 0.5) if answered else math.inf))
    return bins


def run(seconds: float, loads: Sequence[float]) -> list[Storm]:
    """What each load made of the server."""
    cores = sorted(os.sched_getaffinity(0))
    mine, theirs = {cores[0]}, set(cores[1:] or cores)
    requests = [each.ours(round(1000 * TIMEOUT)) for each in take("embedded", 77, 1, POOL)]
    storms = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn"), os.sched_setaffinity, (0, mine)) as client:
        config, port = Path(folder) / "paliserve.toml", free_port()
        config.write_text(CONFIG.format(source=Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"))
        # Inherited: so the server plans with these cores.
        os.sched_setaffinity(0, theirs)
        arguments = ["serve", "--config", str(config), "--grpc-port", "0", "--port", str(port)]
        server = Server("service.main", arguments, port, "/readyz", Path(folder) / "log")
        os.sched_setaffinity(0, mine)
        try:
            server.wait_until_ready()
            for number, load in enumerate(loads):
                capacity = _capacity(client, port, requests)
                times = schedule(capacity, load, seconds, 1000 * number)
                sent = [requests[place % POOL] for place in range(len(times))]
                with Watch(server) as watch:
                    replies = client.submit(run_open, OpenLoop(HttpServer(port), tuple(times), 3 * TIMEOUT), sent).result()
                around = (capacity + _capacity(client, port, requests)) / 2
                # Two looks a second, and one figure for each.
                storms.append(measure(load, around, seconds, replies, watch.seen[::2]))
                print(storms[-1], file=sys.stderr)
                time.sleep(1.0)
        finally:
            server.stop()
            os.sched_setaffinity(0, cores)
    return storms


def _capacity(client: ProcessPoolExecutor, port: int, requests: Sequence[bytes]) -> float:
    loop = ClosedLoop(HttpServer(port), concurrent=48, ramp=96, count=POOL - 144, longest=REFERENCE)
    replies = client.submit(run_closed, loop, requests).result()
    measured = [each for each in replies[loop.ramp : loop.ramp + loop.count] if each.status == 200]
    return (len(measured) - 1) / (measured[-1].ended - measured[0].ended)


def text(storms: Sequence[Storm]) -> str:
    """The results in words and a table."""
    rows = [
        (
            f"{storm.load:g} ×",
            f"{storm.offered:.0f}",
            f"{storm.capacity:.1f}",
            f"{storm.good:.1f} ({storm.good / storm.capacity:.0%})",
            f"{1000 * storm.answered_p50:.0f}, {1000 * storm.answered_p99:.0f}",
            f"{storm.refused}",
            f"{1000 * storm.refused_p50:.1f}, {1000 * storm.refused_p99:.1f}" if storm.refused else "–",
            f"{storm.others}",
            f"{storm.memory_before / 1e6:.0f}, {storm.memory_most / 1e6:.0f}, {storm.memory_after / 1e6:.0f}",
            f"{storm.recovery:.2f}",
        )
        for storm in storms
    ]
    head = (
        "load", "offered/s", "capacity", "answers in time/s", "answered: p50, p99 in ms", "refused", "refused: p50, p99 in ms", "neither",
        "memory before, most, after in MB", "recovered after s",
    )  # fmt: skip
    said = (
        "Open loop, arrivals at random; the embedded model at 224 px, seven tasks mixed, a picture of its own for each, none cached;\n"
        f"each request may take {TIMEOUT:g} s. The server has all cores but one, the client that one. Before and after each storm the\n"
        f"load is {CALM:g} × for {BEFORE:g} and {AFTER:g} s; the capacity is what 48 at once got in {REFERENCE:g} s before and after that."
    )
    return f"# Overload\n\n{said}\n\n{table(head, rows)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each storm")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, help="times the capacity")
    asked = parser.parse_args()
    found = run(asked.seconds, asked.loads)
    command = "python -m load_tests.overload"
    if asked.seconds == 60 and tuple(asked.loads) == LOADS:
        publish("overload", text(found), command, {"storms": [asdict(each) for each in found]})
    else:
        print(text(found))

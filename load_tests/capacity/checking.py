"""The simulation beside the real server: the same arrivals, open loop, below, near and above what it can carry."""

import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from load_tests.capacity.calibration import Measured, mixed
from load_tests.capacity.desk import Status
from load_tests.capacity.routing import RoundRobin
from load_tests.capacity.simulation import Run, Simulation
from load_tests.capacity.traffic import Arrival
from load_tests.capacity.watching import TRIES, is_disturbed, watched
from load_tests.rivals.contest import Disturbance
from load_tests.rivals.servers import Server, free_port
from load_tests.rivals.workloads import Request
from service.bench.arrivals import poisson
from service.bench.figures import percentile
from service.bench.http_connection import HttpServer
from service.bench.load_generator import OpenLoop, Reply, run_open

LOADS = (0.5, 0.85, 1.25)
"""Parts of the capacity."""

TIMEOUT = 3.0
"""Seconds that each request may take: above the capacity the server refuses whom it could not answer in time."""

WARMING, SECONDS = 5.0, 25.0
"""A run is measured from the one to the other."""

SIMULATED = 5
"""Runs of the simulation, with other lengths of the answers each."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of those who came in the measured time: answers a second, and their latencies in seconds; the share that got none."""

    rate: float
    p50: float
    p95: float
    lost: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One run and the simulation of it."""

    load: float
    offered: float
    real: Figures
    simulated: Figures
    disturbance: Disturbance


class RealServer:
    """A server of the embedded models, and a client in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._client = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.port = free_port()
        self._server = Server("service.main", ["serve", "--grpc-port", "0", "--port", str(self.port)], self.port, "/readyz", folder / "log")

    def __enter__(self) -> "RealServer":
        self._server.wait_until_ready()
        self._ask(poisson(20.0, 5.0, 1), mixed(9, 400))
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.stop()
        self._client.shutdown()

    def run(self, times: Sequence[float], requests: Sequence[Request]) -> tuple[list[Reply], Disturbance]:
        """All replies, and what else the machine did."""
        return watched(self._server, lambda: self._ask(times, requests))

    def _ask(self, times: Sequence[float], requests: Sequence[Request]) -> list[Reply]:
        loop = OpenLoop(HttpServer(self.port), tuple(times), 2 * TIMEOUT)
        return self._client.submit(run_open, loop, [each.ours(round(1000 * TIMEOUT)) for each in requests[: len(times)]]).result()


def simulate(measured: Measured, times: Sequence[float], requests: Sequence[Request], seed: int) -> Run:
    """The same arrivals of the same kinds; how long each answer gets is drawn from those that calibration saw of its kind."""
    chance = random.Random(seed)
    known = {kind.name: kind for kind in measured.kinds}
    arrivals = []
    for number, (moment, request) in enumerate(zip(times, requests, strict=False)):
        kind = known[f"{request.task} {request.fields['model']}"]
        drawn = chance.randrange(len(kind.written))
        arrivals.append(Arrival(moment, kind.name, kind.instance, number, kind.prompts[drawn], kind.written[drawn]))
    return Simulation(measured.times, 1, RoundRobin(), arrivals, timeout=TIMEOUT).run()


def of_replies(replies: Sequence[Reply]) -> Figures:
    """What the client saw."""
    window = [reply for reply in replies if WARMING <= reply.due < SECONDS]
    good = [reply.latency for reply in window if reply.status == 200]
    return Figures(len(good) / (SECONDS - WARMING), percentile(good, 0.5), percentile(good, 0.95), 1 - len(good) / max(1, len(window)))


def of_run(run: Run) -> Figures:
    """What the simulation says."""
    window = run.between(WARMING, SECONDS)
    good = [each.ended - each.arrived for each in window.outcomes if each.status is Status.ANSWERED]
    return Figures(len(good) / window.seconds, percentile(good, 0.5), percentile(good, 0.95), window.lost)


def check(measured: Measured, turn: int) -> list[Pair]:
    """Each load once, and again where the machine was disturbed; of the tries the one that was disturbed least."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder, RealServer(Path(folder)) as server:
        for place, load in enumerate(LOADS):
            tries: list[Pair] = []
            while not tries or (is_disturbed(tries[-1].disturbance) and len(tries) < TRIES):
                tries.append(_pair(server, measured, load, 100 + 37 * turn + 10 * place + len(tries)))
            pairs.append(min(tries, key=lambda pair: pair.disturbance.amount))
    return pairs


def _pair(server: RealServer, measured: Measured, load: float, seed: int) -> Pair:
    rate = load * measured.capacity
    times = poisson(rate, SECONDS, seed)
    requests = mixed(seed, len(times))
    replies, disturbance = server.run(times, requests)
    runs = [of_run(simulate(measured, times, requests, number)) for number in range(SIMULATED)]
    simulated = Figures(*(median(getattr(run, name) for run in runs) for name in ("rate", "p50", "p95", "lost")))
    return Pair(load, rate, of_replies(replies), simulated, disturbance)

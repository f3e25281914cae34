"""One model under all servers: started, warmed, and asked in turn."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from load_tests.rivals.figures import Closed, Open, closed, opened
from load_tests.rivals.fixed_batches import BATCH, FixedBatches
from load_tests.rivals.heartbeat import STANDSTILL, Heartbeat
from load_tests.rivals.servers import ROOT, Server, cpu_seconds, free_port, machine_seconds
from load_tests.rivals.workloads import Request, take
from service.bench.arrivals import poisson
from service.bench.http_connection import Connection, HttpServer
from service.bench.load_generator import ClosedLoop, OpenLoop, Reply, run_closed, run_open
from service.planning import demo_settings

OURS, LOCK, LITSERVE, FIXED = "PaliServe", "lock", "LitServe", "fixed"
TRIES = 3
MOST_OTHERS = 0.7
"""Cores that strangers may keep busy in a run that counts."""

OTHER_REQUESTS, OPEN_REQUESTS = 60, 30
"""Rounds are numbered below 30. What is measured again, and each open loop, has pictures that no cache has seen."""

LONG_MS = 600_000
"""No request of a closed loop runs out of time: every server answers all."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is measured: ``per_image`` requests about each picture, so many in flight, for about so many seconds or requests at least."""

    concurrent: int
    per_image: int = 1
    seconds: float = 6.0
    least: int = 32
    ramp: int = 64


@dataclass(frozen=True, slots=True)
class Disturbance:
    """The machine during a run: the longest standstill of a core in seconds, the cores that strangers kept busy and that its host took.

    ``cpu`` is what is left: our own processor seconds per request, client and all.
    """

    standstill: float
    others: float
    stolen: float
    cpu: float

    @property
    def disturbed(self) -> bool:
        """Whether what was measured should be measured again."""
        return self.standstill > STANDSTILL or self.others > MOST_OTHERS

    @property
    def amount(self) -> float:
        """To choose the least disturbed of several."""
        return self.standstill + self.others


@dataclass(frozen=True, slots=True)
class Run:
    """One server in one stage in one round. ``asked`` numbers the requests."""

    server: str
    stage: Stage
    turn: int
    asked: int
    figures: Closed
    disturbance: Disturbance
    replies: list[Reply] = field(repr=False)


class Contest:
    """All servers resident; only the one that is asked runs."""

    def __init__(self, model: str, folder: Path, threads: int) -> None:
        """``threads`` of torch for the rivals; 0 leaves it to torch, as PaliServe does."""
        self.model = model
        self._folder = folder
        self._client = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
        self._rates: dict[tuple[str, int], float] = {}
        self._requests: dict[tuple[int, int], list[Request]] = {}
        source, config = self._checkpoint()
        self._servers = {
            OURS: self._start("service.main", ["serve", *config, "--grpc-port", "0", "--port"], [], "/readyz"),
            LOCK: self._start("load_tests.rivals.lock_server", [source], [str(threads)], "/health"),
            LITSERVE: self._start("load_tests.rivals.litserve_server", [source], [str(threads)], "/health"),
        }
        self._fixed = FixedBatches(source, threads)
        self.idle_cpu: dict[str, float] = {}
        self.repeated = 0
        self._open_loops = 0

    def warm_up(self, number: int) -> None:
        """Ask each some requests, see what it costs idle, and pause it."""
        for name, server in self._servers.items():
            server.wait_until_ready()
            loop = ClosedLoop(HttpServer(server.port), min(number, BATCH), 0, number, LONG_MS / 1000)
            replies = self._client.submit(run_closed, loop, self._raw(name, self.requests(0, 1, loop.needed))).result()
            failed = [reply for reply in replies if reply.status != 200]
            if failed:
                raise RuntimeError(f"{name} answers {failed[0].status} {failed[0].fields}")
            self._rates[name, 0] = closed(replies, 0, number).rate
            began = server.cpu_seconds()
            time.sleep(1.0)
            self.idle_cpu[name] = server.cpu_seconds() - began
            server.pause()
        replies = self._fixed.run(self.requests(0, 1, number))
        self._rates[FIXED, 0] = closed(replies, 0, number).rate

    def requests(self, turn: int, per_image: int, number: int) -> list[Request]:
        """The round's requests: the same for every server."""
        seed = 16 * turn + per_image
        if len(self._requests.get((turn, per_image), ())) < number:
            self._requests[turn, per_image] = take(self.model, seed, per_image, number)
        return self._requests[turn, per_image][:number]

    def run(self, name: str, stage: Stage, turn: int) -> Run:
        """One server, one stage, one round; again if it was disturbed, and of all tries the one that was disturbed least."""
        runs: list[Run] = []
        while not runs or (runs[-1].disturbance.disturbed and len(runs) < TRIES):
            runs.append(self._run(name, stage, (turn, turn + OTHER_REQUESTS * len(runs))))
        self.repeated += len(runs) - 1
        return min(runs, key=lambda run: run.disturbance.amount)

    def _run(self, name: str, stage: Stage, turns: tuple[int, int]) -> Run:
        count, ramp = self._count(name, stage), 0 if name == FIXED else min(stage.concurrent, stage.ramp)
        requests = self.requests(turns[1], stage.per_image, count if name == FIXED else ramp + count + stage.concurrent)
        if name == FIXED:
            replies, seen = self._watched(lambda: self._fixed.run(requests))
        else:
            server, raw = self._servers[name], self._raw(name, requests)
            loop = ClosedLoop(HttpServer(server.port), stage.concurrent, ramp, count, 30.0 + 3 * (ramp + count) / self._rate(name, stage))
            self._only(name)
            replies, seen = self._watched(lambda: self._client.submit(run_closed, loop, raw).result())
            server.pause()
        figures = closed(replies, ramp, count)
        self._rates[name, stage.concurrent] = figures.rate
        return Run(name, stage, *turns, figures, seen, replies)

    def run_open(self, name: str, rate: float, seconds: tuple[float, float], deadline: float) -> Open:
        """Poisson arrivals of a rate; ``seconds``: from when to when it is measured. An answer counts that comes within ``deadline``."""
        tries: list[tuple[Open, Disturbance]] = []
        while not tries or (tries[-1][1].disturbed and len(tries) < TRIES):
            self._open_loops += 1
            tries.append(self._run_open(name, rate, seconds, deadline))
        self.repeated += len(tries) - 1
        return min(tries, key=lambda each: each[1].amount)[0]

    def _run_open(self, name: str, rate: float, seconds: tuple[float, float], deadline: float) -> tuple[Open, Disturbance]:
        times = poisson(rate, seconds[1], int(100 * rate))
        server = self._servers[name]
        requests = self.requests(OPEN_REQUESTS + self._open_loops, 1, len(times))
        raw = [each.ours(round(1000 * deadline)) for each in requests] if name == OURS else self._raw(name, requests)
        loop = OpenLoop(HttpServer(server.port), tuple(times), 1.25 * deadline)
        self._only(name)
        replies, seen = self._watched(lambda: self._client.submit(run_open, loop, raw).result())
        asyncio.run(self._settle(server, self._raw(name, requests[:1])[0]))
        server.pause()
        return opened(replies, *seconds, deadline), seen

    def _only(self, name: str) -> None:
        """Let one run. The others are paused once more: some virtual machines wake all processes when they go on after a standstill."""
        for other, server in self._servers.items():
            if other != name:
                server.pause()
        self._servers[name].resume()

    def _watched(self, work: Callable[[], list[Reply]]) -> tuple[list[Reply], Disturbance]:
        """Replies, and what else the machine was busy with."""
        own, (machine, stolen), began = self._own_seconds(), machine_seconds(), time.monotonic()
        with Heartbeat() as heartbeat:
            replies = work()
        taken, seconds = self._own_seconds() - own, time.monotonic() - began
        machine_after, stolen_after = machine_seconds()
        others = max(0.0, machine_after - machine - taken) / seconds
        return replies, Disturbance(heartbeat.longest, others, (stolen_after - stolen) / seconds, taken / max(1, len(replies)))

    def close(self) -> None:
        """End all processes."""
        self._fixed.stop()
        for server in self._servers.values():
            server.stop()
        self._client.shutdown()

    async def _settle(self, server: Server, raw: bytes) -> None:
        """Wait until what was given up by the client is done by the server too."""
        connection = Connection(server.port)
        await connection.ask(raw)
        connection.close()

    def _count(self, name: str, stage: Stage) -> int:
        wanted = max(stage.least, round(self._rate(name, stage) * stage.seconds))
        return wanted if stage.concurrent < BATCH else -(-wanted // BATCH) * BATCH

    def _rate(self, name: str, stage: Stage) -> float:
        """What is to be expected: the last time's rate, or the warm-up's."""
        return self._rates.get((name, stage.concurrent), self._rates[name, 0])

    def _raw(self, name: str, requests: Sequence[Request]) -> list[bytes]:
        return [request.ours(LONG_MS) if name == OURS else request.theirs() for request in requests]

    def _own_seconds(self) -> float:
        return cpu_seconds(os.getpgrp()) + sum(server.cpu_seconds() for server in self._servers.values())

    def _start(self, module: str, before: list[str], after: list[str], health: str) -> Server:
        port = free_port()
        return Server(module, [*before, str(port), *after], port, health, self._folder / f"{module.rpartition('.')[2]}-{self.model}.log")

    def _checkpoint(self) -> tuple[str, list[str]]:
        """The rivals' source, and our arguments: no configuration at all for the embedded model."""
        if self.model == "embedded":
            return demo_settings()[0].source, []
        source, config = self._folder / "medium", self._folder / "medium.toml"
        subprocess.run([sys.executable, "-m", "load_tests.rivals.medium_model", str(source)], cwd=ROOT, check=True, capture_output=True)
        config.write_text(f'[[instances]]\nname = "medium"\nsource = "{source}"\nmax_prompt_tokens = 64\nmax_tokens = 64\n')
        return str(source), ["--config", str(config)]

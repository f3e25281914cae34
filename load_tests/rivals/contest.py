"""One model under all servers: started, warmed, and asked in turn."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from load_tests.rivals.figures import Closed, Open, closed, opened
from load_tests.rivals.fixed_batches import BATCH, FixedBatches
from load_tests.rivals.heartbeat import Heartbeat
from load_tests.rivals.http_framing import Connection
from load_tests.rivals.load_generator import ClosedLoop, OpenLoop, Reply, run_closed, run_open
from load_tests.rivals.servers import ROOT, Server, cpu_seconds, free_port, machine_seconds
from load_tests.rivals.workloads import Request, take
from service.wiring import DEMO

OURS, LOCK, LITSERVE, FIXED = "PaliServe", "lock", "LitServe", "fixed"
TRIES = 4
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
class Run:
    """One server in one stage in one round. ``cpu``: processor seconds per request; ``others``: cores that strangers kept busy."""

    server: str
    stage: Stage
    turn: int
    figures: Closed
    cpu: float
    others: float
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
            OURS: self._start("service.main", ["serve", *config, "--port"], [], "/readyz"),
            LOCK: self._start("load_tests.rivals.lock_server", [source], [str(threads)], "/health"),
            LITSERVE: self._start("load_tests.rivals.litserve_server", [source], [str(threads)], "/health"),
        }
        self._fixed = FixedBatches(source, threads)
        self.idle_cpu: dict[str, float] = {}
        self.repeated = 0

    def warm_up(self, number: int) -> None:
        """Ask each some requests, see what it costs idle, and pause it."""
        for name, server in self._servers.items():
            server.wait_until_ready()
            loop = ClosedLoop(server.port, min(number, BATCH), 0, number, LONG_MS / 1000)
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
        """One server, one stage, one round; once more if the machine stood still meanwhile."""
        for _ in range(TRIES):
            with Heartbeat() as heartbeat:
                run = self._run(name, stage, turn)
            if not heartbeat.stood_still:
                return run
            self._note(name, heartbeat)
        raise RuntimeError("the machine stands still too often to be measured on")

    def _note(self, name: str, heartbeat: Heartbeat) -> None:
        print(f"{self.model}: {name}: the machine stood still for {heartbeat.longest:.1f} s; measured again", flush=True)
        self.repeated += 1

    def _run(self, name: str, stage: Stage, turn: int) -> Run:
        count = self._count(name, stage)
        own, machine, began = self._own_seconds(), machine_seconds(), time.monotonic()
        if name == FIXED:
            ramp = 0
            replies = self._fixed.run(self.requests(turn, stage.per_image, count))
        else:
            ramp = min(stage.concurrent, stage.ramp)
            server = self._servers[name]
            loop = ClosedLoop(server.port, stage.concurrent, ramp, count, 3 * stage.seconds + 30.0)
            raw = self._raw(name, self.requests(turn, stage.per_image, loop.needed))
            own, machine, began = self._own_seconds(), machine_seconds(), time.monotonic()
            server.resume()
            replies = self._client.submit(run_closed, loop, raw).result()
            server.pause()
        taken, seconds = self._own_seconds() - own, time.monotonic() - began
        others = max(0.0, machine_seconds() - machine - taken) / seconds
        figures = closed(replies, ramp, count)
        self._rates[name, stage.concurrent] = figures.rate
        return Run(name, stage, turn, figures, taken / len(replies), others, replies)

    def run_open(self, name: str, rate: float, seconds: tuple[float, float], deadline: float) -> Open:
        """Poisson arrivals of a rate; ``seconds``: from when to when it is measured. An answer counts that comes within ``deadline``."""
        for _ in range(TRIES):
            with Heartbeat() as heartbeat:
                seen = self._run_open(name, rate, seconds, deadline)
            if not heartbeat.stood_still:
                return seen
            self._note(name, heartbeat)
        raise RuntimeError("the machine stands still too often to be measured on")

    def _run_open(self, name: str, rate: float, seconds: tuple[float, float], deadline: float) -> Open:
        chance, moment, times = random.Random(int(100 * rate)), 0.0, []
        while (moment := moment + chance.expovariate(rate)) < seconds[1]:
            times.append(moment)
        server = self._servers[name]
        requests = self.requests(15, 1, len(times))
        raw = [each.ours(round(1000 * deadline)) for each in requests] if name == OURS else [each.theirs() for each in requests]
        server.resume()
        replies = self._client.submit(run_open, OpenLoop(server.port, tuple(times), 1.25 * deadline), raw).result()
        asyncio.run(self._settle(server, self._raw(name, requests[:1])[0]))
        server.pause()
        return opened(replies, *seconds, deadline)

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
        rate = self._rates.get((name, stage.concurrent), self._rates[name, 0])
        wanted = max(stage.least, round(rate * stage.seconds))
        return wanted if stage.concurrent < BATCH else -(-wanted // BATCH) * BATCH

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
            return str(ROOT / "service" / "demo" / "checkpoints" / DEMO), []
        source, config = self._folder / "medium", self._folder / "medium.toml"
        subprocess.run([sys.executable, "-m", "load_tests.rivals.medium_model", str(source)], cwd=ROOT, check=True, capture_output=True)
        config.write_text(f'[[instances]]\nname = "medium"\nsource = "{source}"\nmax_prompt_tokens = 64\nmax_tokens = 64\n')
        return str(source), ["--config", str(config)]

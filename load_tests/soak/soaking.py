"""One soak: the capacity for this mix by a closed loop, then a part of it in an open loop, watched all the time."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from load_tests.capacity.calibration import mixed
from load_tests.rivals.servers import Server
from load_tests.rivals.workloads import Request
from load_tests.soak.census import Holding, holdings, scraped, total
from load_tests.soak.visitors import Outcome, Visitors
from service.bench.arrivals import poisson

AT_ONCE = 12
"""Visitors of the closed loop: enough to keep two cores busy."""

PICTURES = 2000
"""So many are shown, more than the vision caches hold: these are full within the first minute, and throw away from then on."""

EVERY = 2.0
"""Seconds between two looks at the processes."""

REST_SECONDS = 8.0
"""After the last answer: connections that nobody uses are closed by then."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was held when: seconds since the open loop began. ``tasks`` of the event loop."""

    moment: float
    held: Mapping[str, Holding]
    tasks: float

    @property
    def whole(self) -> Holding:
        """All processes together."""
        return sum(self.held.values(), Holding(0, 0, 0, 0))


@dataclass(slots=True)
class Soak:
    """What was seen. ``ended`` counts the ends of visits by kind and outcome; ``before`` and ``after`` are looks at the idle server.

    ``metrics``: how much each series of the server's grew, warm-up included.
    """

    capacity: float = 0.0
    load: float = 0.0
    seconds: float = 0.0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    before: Look | None = None
    after: Look | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    late: float = 0.0
    kinds: Mapping[str, int] = field(default_factory=dict)

    def outcome(self, wanted: Outcome) -> int:
        """How many visits ended so, of all kinds."""
        return sum(count for (_, outcome), count in self.ended.items() if outcome == wanted.value)


class Soaking:
    """Asks one server. ``seconds`` is the length of the open loop, which gets ``load`` of the capacity."""

    def __init__(self, server: Server, grpc_port: int, load: float, seconds: float) -> None:
        self._server = server
        self._grpc_port = grpc_port
        self._requests = cycle(mixed(71, PICTURES))
        self._soak = Soak(load=load, seconds=seconds)

    async def run(self) -> Soak:
        """Everything, in about 30 seconds more than ``seconds``."""
        soak = self._soak
        start = await scraped(self._server.port)
        visitors = Visitors(self._server.port, self._grpc_port, 1)
        soak.capacity = await self._closed(visitors, max(10.0, min(30.0, soak.seconds / 5)))
        await visitors.close()
        soak.before = await self._at_rest()
        visitors = Visitors(self._server.port, self._grpc_port, 2)
        soak.kinds = visitors.kinds
        watching = asyncio.create_task(self._watch(time.monotonic()))
        await self._open(visitors)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await visitors.close()
        soak.after = await self._at_rest()
        soak.unexplained += visitors.unexplained
        end = await scraped(self._server.port)
        soak.metrics = {name: value - start.get(name, 0.0) for name, value in end.items()}
        return soak

    async def _closed(self, visitors: Visitors, seconds: float) -> float:
        """Visits a second, of the second half."""
        began, ends = time.monotonic(), list[float]()

        async def come_again() -> None:
            while time.monotonic() < began + seconds:
                await self._visit(visitors)
                ends.append(time.monotonic() - began)

        await asyncio.gather(*(come_again() for _ in range(AT_ONCE)))
        self._soak.unexplained += visitors.unexplained
        return sum(seconds / 2 <= moment < seconds for moment in ends) / (seconds / 2)

    async def _open(self, visitors: Visitors) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for moment in poisson(self._soak.load * self._soak.capacity, self._soak.seconds, 72):
                await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
                self._soak.late = max(self._soak.late, time.monotonic() - began - moment)
                group.create_task(self._visit(visitors))

    async def _visit(self, visitors: Visitors) -> None:
        name, visit = visitors.choose()
        request: Request = next(self._requests)
        outcome = await visit(request)
        self._soak.ended[name, outcome.value] += 1

    async def _watch(self, began: float) -> None:
        while True:
            self._soak.looks.append(await self._look(began))
            await asyncio.sleep(EVERY)

    async def _look(self, began: float = 0.0) -> Look:
        metrics = await scraped(self._server.port)
        held = await asyncio.to_thread(holdings, self._server.group)
        return Look(time.monotonic() - began, held, total(metrics, "paliserve_event_loop_tasks"))

    async def _at_rest(self) -> Look:
        """Once nobody is served any more and the connections are closed."""
        await asyncio.sleep(REST_SECONDS)
        return await self._look()


def server(folder: Path, port: int, grpc_port: int, sources: Mapping[str, str]) -> Server:
    """Of two models, with vision caches that are soon full."""
    config = folder / "soak.toml"
    instances = (
        f'[[instances]]\nname = "{name}"\nsource = "{source}"\nvision_cache_bytes = 20_000_000\n' for name, source in sources.items()
    )
    config.write_text("".join(instances))
    ports: Sequence[str] = ["--port", str(port), "--grpc-port", str(grpc_port)]
    return Server("service.main", ["serve", "--config", str(config), *ports], port, "/readyz", folder / "log")

"""An engine over the counting runner, to be worked with."""

import asyncio
from collections.abc import Awaitable, Callable

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits, TokenListener
from service.engine.generation import Generated, Generation
from tests.fakes import CountingRunner, SilentObserver

FOREVER = float("inf")


class Bench:
    """An engine over the counting runner, on a real device thread."""

    def __init__(self, slots: int = 4, queue: int = 100, queue_seconds: float = 2.0) -> None:
        self.runner = CountingRunner(slots)
        self.observer = SilentObserver()
        self.device = DeviceLoop()
        self.engine = Engine("fake", self.device, EngineLimits(queue, queue_seconds), self.observer)
        self.engine.load(lambda threads: self.runner)

    async def ask(self, wanted: Generation) -> tuple[int, ...]:
        with self.engine.reserve(FOREVER) as place:
            return (await place.run(wanted)).tokens

    async def listen(self, wanted: Generation, listener: TokenListener) -> Generated:
        with self.engine.reserve(FOREVER) as place:
            return await place.run(wanted, listener)


def run(
    work: Callable[[Bench], Awaitable[None]], slots: int = 4, queue: int = 100, seconds: float = 30, queue_seconds: float = 2.0
) -> Bench:
    bench = Bench(slots, queue, queue_seconds)
    bench.device.start()

    async def main() -> None:
        async with asyncio.timeout(seconds):
            await work(bench)

    asyncio.run(main())
    bench.runner.gate.set()
    bench.device.stop()
    return bench

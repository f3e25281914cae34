import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.instances.instance import warm_up
from tests.fakes import CountingRunner, FakeModel, SilentObserver
from tests.instances.instance_fake import instance


@pytest.mark.parametrize(("queue", "prefill_tokens", "rows"), [(100, 1000, 6), (100, 18, 3), (100, 1, 3), (1, 1000, 1)])
def test_threat_51_warm_up_runs_steps_of_every_number_of_rows(queue: int, prefill_tokens: int, rows: int) -> None:
    model, observer, device = FakeModel(slots=6), SilentObserver(), DeviceLoop()
    model.runner = runner = CountingRunner(6)
    runner.end_tokens = frozenset()  # it never ends by itself
    made = replace(
        instance("one", 224), model=model, engine=Engine("one", device, EngineLimits(queue, prefill_tokens=prefill_tokens), observer)
    )
    made.engine.load(lambda threads: runner)
    # All are there before the first step.
    runner.gate.clear()
    device.start()

    async def main() -> None:
        with ThreadPoolExecutor(1) as workers:
            warming = asyncio.create_task(warm_up(made, b"a picture", workers))
            while made.engine.waiting + made.engine.running < rows:  # noqa: ASYNC110
                await asyncio.sleep(0)
            runner.gate.set()
            await warming

    asyncio.run(main())
    device.stop()
    ran = {phase: [size for each, size in observer.batches if each == phase] for phase in ("vision", "prefill", "decode")}
    assert sum(ran["vision"]) == sum(ran["prefill"]) == rows
    assert set(ran["decode"]) >= set(range(1, rows + 1))
    assert ran["decode"][-1] == 1
    assert observer.queue == ("one", 0, 0)

"""Steps that only look too long."""

import asyncio
import time
from typing import cast

import pytest

from service import watchdog as watching
from service.engine.device import Device
from service.observability.metrics import Metrics
from service.watchdog import Watchdog

SECONDS = 0.5


class Stepping:
    """A device whose step began when it was made."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.killed_at: float | None = None

    def rescue(self, patience: float) -> bool:
        age = time.monotonic() - self.began
        if age > patience and self.killed_at is None:
            self.killed_at = age
        return True


def test_threat_47_a_step_is_not_killed_because_everything_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine does that is suspended; the step needs a little more when it goes on, and another one never ends."""
    monkeypatch.setattr(watching, "LOOKS_EVERY", 0.02)
    stood_still = 2 * SECONDS

    async def main() -> None:
        device = Stepping()
        watchdog = Watchdog({"cpu": cast("Device", device)}, {}, lambda: False, SECONDS, Metrics("test"))
        watch = asyncio.create_task(watchdog.watch())
        await asyncio.sleep(0)
        time.sleep(stood_still)  # noqa: ASYNC251 (that is what happens)
        async with asyncio.timeout(60):
            while device.killed_at is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # Time to end in, as if nothing had been.
        assert device.killed_at >= stood_still + 0.8 * SECONDS
        device.began, device.killed_at = time.monotonic(), None
        async with asyncio.timeout(60):
            while device.killed_at is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        watch.cancel()

    asyncio.run(main())

"""Watches over the process while it serves: how late its event loop is, and whether its devices come back from their steps."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from service.engine.device import Device
from service.instances.instance import Instance
from service.observability.metrics import Metrics

logger = logging.getLogger(__name__)

LOOKS_EVERY = 0.5
"""Seconds."""

STANDS_STILL = 0.1
"""Part of a step's time; an event loop that is later than this stood still, with its process or the whole machine."""

FIRST_STEPS = 10
"""Times that a step may take longer while an instance is loaded or warmed up: what is compiled or recorded takes its time."""


class Watchdog:
    """``devices`` by name, ``loaded``: the instances on them, ``is_loading``: whether another one is on its way.

    A step that takes longer than ``step_seconds`` is given up: a worker process is replaced; what cannot be replaced refuses its requests.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        loaded: Mapping[str, Instance],
        is_loading: Callable[[], bool],
        step_seconds: float,
        metrics: Metrics,
    ) -> None:
        self._devices = devices
        self._loaded = loaded
        self._is_loading = is_loading
        self._step_seconds = step_seconds
        self._metrics = metrics
        self._stood_still, self._until = 0.0, 0.0

    async def watch(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOKS_EVERY
            await asyncio.sleep(LOOKS_EVERY)
            lag = loop.time() - due
            # What waits for the event loop, waits so long.
            self._metrics.event_loop_lagged(lag)
            self._metrics.event_loop_has(len(asyncio.all_tasks()))
            self._allow_for(lag, loop.time())
            self._rescue()

    def alive(self) -> bool:
        """Whether every device works and none is stuck in a step."""
        return all(device.is_alive(self.patience()) for device in self._devices.values())

    def _allow_for(self, lag: float, now: float) -> None:
        """A step that was under way while everything stood still looks older by that. After its time there is none of them left."""
        if now >= self._until:
            self._stood_still = 0.0
        seconds = self._seconds()
        if lag >= STANDS_STILL * seconds:
            self._stood_still, self._until = max(self._stood_still, lag), now + seconds

    def _rescue(self) -> None:
        for name, device in self._devices.items():
            if device.rescue(self.patience()):
                continue
            logger.error("%s does not come back from its step: its requests are refused", name)
            for instance in self._loaded.values():
                if instance.description.device == name:
                    instance.engine.give_up("The model did not come back from a step, and this process must be started anew.")

    def patience(self) -> float:
        """Seconds after which a step is given up."""
        return self._seconds() + self._stood_still

    def _seconds(self) -> float:
        return self._step_seconds * (FIRST_STEPS if self._is_loading() else 1)

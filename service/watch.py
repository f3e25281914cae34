"""The one watch of a process: how late its event loop is, and whether its devices come back from their steps."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from service.engine.device import Device
from service.instances.instance import Instance
from service.instances.keeper import Keeper, State

logger = logging.getLogger(__name__)

WATCHED_EVERY = 0.5
"""Seconds."""

FIRST_STEPS = 10
"""So many times longer may a step take while an instance is warmed up: first steps may compile what later ones run."""


class Watch:
    """Gives up the steps that take longer than ``step_seconds``, and tells ``lagged`` how late the event loop woke up.

    ``loaded`` and ``keepers`` are the instances of the moment, by name. Belongs to one event loop.
    """

    def __init__(
        self,
        step_seconds: float,
        devices: Mapping[str, Device],
        loaded: Mapping[str, Instance],
        keepers: Mapping[str, Keeper],
        lagged: Callable[[float], None],
    ) -> None:
        self._step_seconds = step_seconds
        self._devices = devices
        self._loaded = loaded
        self._keepers = keepers
        self._lagged = lagged
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch from now on."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()

    @property
    def patience(self) -> float:
        """Seconds after which a step is given up."""
        loading = any(keeper.state is State.LOADING for keeper in self._keepers.values())
        return self._step_seconds * (FIRST_STEPS if loading else 1)

    async def _watch(self) -> None:
        """What waits for the event loop, waits as long as it lags."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + WATCHED_EVERY
            await asyncio.sleep(WATCHED_EVERY)
            lag = loop.time() - due
            self._lagged(lag)
            # Where the whole process stood still, its steps did too.
            if lag < self.patience / 2:
                self._rescue()

    def _rescue(self) -> None:
        for name, device in self._devices.items():
            if device.rescue(self.patience):
                continue
            logger.error("%s does not come back from its step: its requests are refused", name)
            for instance in self._loaded.values():
                if instance.description.device == name:
                    instance.engine.give_up("The model did not come back from a step, and this process must be started anew.")

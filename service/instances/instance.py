"""One warm model."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from service.engine.engine import Engine
from service.engine.generation import Generation
from service.engine.runner import LoadedModel
from service.instances.description import ModelDescription


@dataclass(frozen=True, slots=True)
class Instance:
    """A loaded checkpoint at its resolution, with its engine. ``description`` is what callers may know of it."""

    description: ModelDescription
    model: LoadedModel
    engine: Engine

    @property
    def name(self) -> str:
        """What requests and metrics carry."""
        return self.description.name


async def warm_up(instance: Instance, picture: bytes, workers: Executor) -> None:
    """Run one request through preprocessing, vision, prefill and decode, so that the first caller does not wait for first-time work."""
    prompt = await asyncio.get_running_loop().run_in_executor(workers, instance.model.prepare, picture, "caption en", False)
    with instance.engine.reserve(deadline=float("inf")) as place:
        await place.run(Generation(prompt, max_tokens=4))

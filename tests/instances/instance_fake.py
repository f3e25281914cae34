"""Instances around the fake model."""

import asyncio

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.vision_cache import VisionCache
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.instances.keeper import Keeper, State, Upkeep
from tests.fakes import LEXICON, FakeModel, SilentObserver, shelf


def instance(name: str, resolution: int) -> Instance:
    observer, model = SilentObserver(), FakeModel(resolution=resolution)
    description = ModelDescription(
        name=name, resolution=resolution, dtype="float32", device="cpu", state="warm", tasks=("caption",), adapters=(),
        max_tokens=model.max_tokens, source=name, created=0,
    )  # fmt: skip
    engine = Engine(name, DeviceLoop(), EngineLimits(), observer)
    return Instance(description, model, engine, VisionCache(name, 0, 1, observer), LEXICON, shelf(2))


def keeper_of(made: Instance, on_demand: bool = True) -> Keeper:
    """Keeps what is made already."""

    async def load(name: str) -> Instance:
        return made

    async def unload(dropped: Instance) -> None: ...

    def observe(name: str, state: State) -> None: ...

    return Keeper(made.description, on_demand, 100, Upkeep(load, unload, observe, lambda reason: None, asyncio.Lock()))


def warm(keeper: Keeper) -> Keeper:
    """The same, loaded."""
    asyncio.run(keeper.warm())
    return keeper

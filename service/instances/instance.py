"""One warm model."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from service.engine.engine import Engine
from service.engine.generation import Generation, Prompt
from service.engine.lexicon import Lexicon
from service.engine.runner import LoadedModel
from service.engine.vision_cache import VisionCache
from service.instances.description import ModelDescription
from service.instances.shelf import AdapterShelf


@dataclass(frozen=True, slots=True)
class Instance:
    """A loaded checkpoint at its resolution, with its engine. ``description`` is what callers may know of it.

    ``prompt_style``: how it wants to be asked; ``max_images``: the most pictures of a request.
    """

    description: ModelDescription
    model: LoadedModel
    engine: Engine
    pictures: VisionCache
    lexicon: Lexicon
    adapters: AdapterShelf
    prompt_style: str = "standard"
    max_images: int = 1

    @property
    def name(self) -> str:
        """What requests and metrics carry."""
        return self.description.name


async def warm_up(instance: Instance, picture: bytes, workers: Executor) -> None:
    """Run one request through preprocessing, vision, prefill and decode, so that the first caller does not wait for first-time work."""
    made = await asyncio.get_running_loop().run_in_executor(workers, instance.model.picture, picture)
    with instance.engine.reserve(deadline=float("inf")) as place:
        await place.run(Generation(Prompt((made,), instance.model.tokens("caption en", False)), max_tokens=4))

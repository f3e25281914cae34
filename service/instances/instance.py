"""One warm model."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, replace

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
    """Run what requests will run, in every process, so that the first callers do not wait for first-time work.

    Preprocessing; batches of pictures and of prompts as large as a step takes; decode steps of that many rows, then fewer and fewer. Where
    steps are recorded, all of them were run by loading.
    """
    made = await asyncio.get_running_loop().run_in_executor(workers, instance.model.picture, picture)
    tokens = instance.model.tokens("caption en", False)
    count = instance.engine.filling(instance.model.image_tokens + len(tokens))

    async def ask(number: int) -> None:
        with instance.engine.reserve(deadline=float("inf")) as place:
            # A picture of its own: one that they shared would be encoded once. Long enough for all others to join before the first ends.
            most = min(1 + count + number, instance.model.max_tokens)
            await place.run(Generation(Prompt((replace(made),), tokens), most))

    async with asyncio.TaskGroup() as asking:
        for number in range(count):
            asking.create_task(ask(number))

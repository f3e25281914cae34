"""The instances of this process, and which one answers a request."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from service.errors import ModelNotFound
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.instances.keeper import Keeper, State

SHRINK = 2
"""``auto`` takes the lowest resolution that does not shrink the picture's shorter side by more than this."""


class Catalogue:
    """Instances by name. The first one is the default."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        if not keepers:
            raise ValueError("at least one instance is needed")
        self._keepers = {keeper.name: keeper for keeper in keepers}
        if len(self._keepers) < len(keepers):
            raise ValueError("two instances have the same name")

    @asynccontextmanager
    async def lease(self, model: str | None, resolution: int | str | None, shorter_side: int | None) -> AsyncIterator[Instance]:
        """See ``Router``. Waits where the instance is being loaded."""
        async with self.choose(model, resolution, shorter_side).lease() as instance:
            yield instance

    def choose(self, model: str | None, resolution: int | str | None, shorter_side: int | None) -> Keeper:
        """The instance named ``model``, else one of ``resolution`` (224, 448, 896 or "auto"), else the default.

        ``shorter_side`` of the picture, in pixels, is needed where ``resolution`` is "auto". Errors: ModelNotFound.
        """
        if model is not None:
            keeper = self.named(model)
            if isinstance(resolution, int) and resolution != keeper.resolution:
                raise ModelNotFound(f"{model} has resolution {keeper.resolution}, not {resolution}: ask for one of the two.")
            return keeper
        if resolution is None:
            return next(iter(self._keepers.values()))
        if resolution == "auto":
            return self._automatic(shorter_side)
        # Of several, the first that is warm, or else the first.
        of_this = [keeper for keeper in self._keepers.values() if keeper.resolution == resolution]
        if not of_this:
            served = ", ".join(str(side) for side in sorted({keeper.resolution for keeper in self._keepers.values()}))
            raise ModelNotFound(f"No instance of resolution {resolution} is served; there is {served}.")
        return next((keeper for keeper in of_this if keeper.state is State.WARM), of_this[0])

    def named(self, name: str) -> Keeper:
        """The instance of this name. Errors: ModelNotFound, which lists what is served."""
        try:
            return self._keepers[name]
        except KeyError:
            raise ModelNotFound(f"No model of this name is served; there is {', '.join(self._keepers)}.") from None

    def descriptions(self) -> list[ModelDescription]:
        """What is served, the default first."""
        return [keeper.description for keeper in self._keepers.values()]

    def _automatic(self, shorter_side: int | None) -> Keeper:
        """Of those that are warm; where none is, of all."""
        warm = [keeper for keeper in self._keepers.values() if keeper.state is State.WARM]
        by_resolution = {keeper.resolution: keeper for keeper in reversed(warm or list(self._keepers.values()))}
        sides = sorted(by_resolution)
        enough = [side for side in sides if shorter_side is not None and side * SHRINK >= shorter_side]
        return by_resolution[enough[0] if enough else sides[-1]]

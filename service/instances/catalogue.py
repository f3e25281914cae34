"""The instances of this process, and which one answers a request."""

from collections.abc import Sequence

from service.errors import ModelNotFound
from service.instances.description import ModelDescription
from service.instances.instance import Instance

SHRINK = 2
"""``auto`` takes the lowest resolution that does not shrink the picture's shorter side by more than this."""


class Catalogue:
    """Warm instances by name. The first one is the default."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        if not instances:
            raise ValueError("at least one instance is needed")
        self._instances = {instance.name: instance for instance in instances}
        if len(self._instances) < len(instances):
            raise ValueError("two instances have the same name")

    def route(self, model: str | None, resolution: int | str | None, shorter_side: int | None) -> Instance:
        """The instance named ``model``, else one of ``resolution`` (224, 448, 896 or "auto"), else the default.

        ``shorter_side`` of the picture, in pixels, is needed where ``resolution`` is "auto". Errors: ModelNotFound.
        """
        if model is not None:
            instance = self.named(model)
            if isinstance(resolution, int) and resolution != instance.model.resolution:
                raise ModelNotFound(f"{model} has resolution {instance.model.resolution}, not {resolution}: ask for one of the two.")
            return instance
        if resolution is None:
            return next(iter(self._instances.values()))
        by_resolution = {instance.model.resolution: instance for instance in reversed(self._instances.values())}
        if resolution == "auto":
            sides = sorted(by_resolution)
            enough = [side for side in sides if shorter_side is not None and side * SHRINK >= shorter_side]
            return by_resolution[enough[0] if enough else sides[-1]]
        if resolution not in by_resolution:
            served = ", ".join(str(side) for side in sorted(by_resolution))
            raise ModelNotFound(f"No instance of resolution {resolution} is served; there is {served}.")
        return by_resolution[int(resolution)]

    def named(self, name: str) -> Instance:
        """The instance of this name. Errors: ModelNotFound, which lists what is served."""
        try:
            return self._instances[name]
        except KeyError:
            raise ModelNotFound(f"No model of this name is served; there is {', '.join(self._instances)}.") from None

    def descriptions(self) -> list[ModelDescription]:
        """What is served, the default first."""
        return [instance.description for instance in self._instances.values()]

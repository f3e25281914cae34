"""Questions answered in this process, without a server."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from service.drawing import draw
from service.errors import OperatorError
from service.instance_settings import InstanceSettings
from service.model.images import ImageLimits, ImageReader
from service.observability.metrics import Metrics
from service.planning import demo_settings
from service.settings import Settings
from service.tasks.asks import Options
from service.transports.responses import generate_response
from service.wiring import PaliServe


async def ask(settings: Settings, image: bytes, prompt: str, model: str | None, save: Path | None) -> dict[str, Any]:
    """The response as ``/v1/generate`` would give it. ``save`` names the picture to draw into. Errors: PaliServeError, OperatorError."""
    if save is not None:
        _check_target(save)
    # One question is answered before a process of its own would be ready.
    async with opened(settings.model_copy(update={"workers": 0, "image_workers": 0}), model) as service:
        result = await service.tasks.generate(image, Options(model=model), prompt)
    if save is not None:
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        draw(ImageReader(limits).open(image), [*result.detections, *result.segments]).save(save)
    return generate_response(result, uuid.uuid4().hex).model_dump(mode="json")


@asynccontextmanager
async def opened(settings: Settings, model: str | None) -> AsyncIterator[PaliServe]:
    """The service with one instance, the first or the one of that name, warm until the block is left.

    Errors: CheckpointError, OperatorError.
    """
    service = PaliServe(settings.model_copy(update={"instances": (asked_instance(settings, model),)}), Metrics("ask"))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def asked_instance(settings: Settings, model: str | None) -> InstanceSettings:
    """The one instance that is loaded for questions. Errors: OperatorError."""
    instances = settings.instances or demo_settings()
    found = next((each for each in instances if model in (None, each.name)), None)
    if found is None:
        raise OperatorError(f"--model {model}: there is no such instance; there is {', '.join(each.name for each in instances)}.")
    return found.model_copy(update={"preload": True})


def _check_target(save: Path) -> None:
    if not save.parent.is_dir():
        raise OperatorError(f"{save}: there is no folder {save.parent}.")
    if Image.registered_extensions().get(save.suffix.lower()) not in Image.SAVE:
        raise OperatorError(f"{save}: the name must end in a picture's suffix, such as .png or .jpg.")

"""One question about one picture, answered in this process."""

import uuid
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from service.drawing import draw
from service.observability.metrics import Metrics
from service.settings import Settings
from service.tasks.tasks import Options
from service.transports.rest.responses import generate_response
from service.wiring import PaliServe


async def ask(settings: Settings, image: bytes, prompt: str, model: str | None, save: Path | None) -> dict[str, Any]:
    """The response as ``/v1/generate`` would give it. ``save`` names the picture to draw into. Errors: PaliServeError, CheckpointError."""
    service = PaliServe(settings, Metrics("ask"))
    await service.start()
    try:
        result = await service.tasks.generate(image, Options(model=model), prompt)
    finally:
        await service.stop()
    if save is not None:
        picture = ImageOps.exif_transpose(Image.open(BytesIO(image)))
        draw(picture, [*result.detections, *result.segments]).save(save)
    return generate_response(result, uuid.uuid4().hex).model_dump(mode="json")

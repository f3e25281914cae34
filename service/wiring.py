"""Builds everything from settings and plugs it together. The parts take plain values and one another; nothing here decides."""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from PIL import Image

from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.runner import LoadedModel
from service.engine.vision_cache import VisionCache
from service.errors import Draining
from service.instances.catalogue import Catalogue
from service.instances.description import ModelDescription
from service.instances.instance import Instance, warm_up
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, load, quiet_progress, resolution, set_threads
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import SlidingWindow
from service.observability.metrics import Metrics
from service.settings import InstanceSettings, Settings
from service.tasks.tasks import ALL_TASKS, Tasks

logger = logging.getLogger(__name__)

DEMO = "shapes-224"
STUCK_AFTER = 60.0
"""Seconds after which a step that does not end means that the process is not alive."""


class PaliServe:
    """The running service: what every transport is given."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Loads every instance; takes as long as that takes. Errors: CheckpointError."""
        self.metrics = metrics
        self.draining = False
        quiet_progress()
        set_threads(settings.threads)
        self._workers = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="work")
        self._device = DeviceLoop(metrics)
        self.images = ImageReader(ImageLimits(settings.max_image_bytes, settings.max_image_pixels))
        limits = EngineLimits(queue=settings.max_queue)
        self._instances = [self._instance(each, settings, limits) for each in settings.instances or [demo_settings()]]
        self.catalogue = Catalogue(self._instances)
        self.tasks = Tasks(self.catalogue, self.images.size, self._workers, settings.default_timeout_seconds)

    async def start(self) -> None:
        """Warm every instance up."""
        self._device.start()
        for instance in self._instances:
            began = time.monotonic()
            await warm_up(instance, _blank_picture(), self._workers)
            logger.info("%s is warm (%.1f s)", instance.name, time.monotonic() - began)

    def drain(self) -> None:
        """Take nothing new from now on."""
        self.draining = True

    def idle(self) -> bool:
        """Whether no request waits or runs."""
        return not any(instance.engine.waiting or instance.engine.running for instance in self._instances)

    async def stop(self) -> None:
        """Finish what was accepted, then end the threads."""
        self.drain()
        await asyncio.to_thread(self._device.stop)
        self._workers.shutdown()

    def models(self) -> Sequence[ModelDescription]:
        """What is served, the default first."""
        return self.catalogue.descriptions()

    def model(self, name: str) -> ModelDescription:
        """Errors: ModelNotFound."""
        return self.catalogue.named(name).description

    def alive(self) -> bool:
        """Whether the device thread runs and is not stuck in a step."""
        return self._device.is_alive(STUCK_AFTER)

    def ready(self) -> None:
        """Errors: Draining."""
        if self.draining:
            raise Draining("This process is stopping: send the request to another one.")

    def _instance(self, wanted: InstanceSettings, settings: Settings, limits: EngineLimits) -> Instance:
        began = time.monotonic()
        checkpoint = load(_source(wanted, settings))
        options = ServingOptions(
            wanted.slots, wanted.max_prompt_tokens, wanted.max_tokens, SlidingWindow(wanted.sliding_window), wanted.compile
        )
        model: LoadedModel = PaliGemma(checkpoint, options, self.images)
        description = ModelDescription(
            name=wanted.name,
            resolution=model.resolution,
            dtype=checkpoint.dtype,
            device=checkpoint.device,
            state="warm",
            tasks=tuple(task.name for task in ALL_TASKS),
            adapters=(),
            max_tokens=model.max_tokens,
            source=Path(wanted.source).name if Path(wanted.source).is_dir() else wanted.source,
            created=int(time.time()),
        )
        logger.info(
            "%s is loaded: %s, %s, %s (%.1f s)",
            wanted.name,
            description.source,
            checkpoint.dtype,
            checkpoint.device,
            time.monotonic() - began,
        )
        engine = Engine(wanted.name, model.runner, self._device, limits, self.metrics)
        pictures = VisionCache(wanted.name, wanted.vision_cache_bytes, model.runner.feature_bytes, self.metrics)
        return Instance(description, model, engine, pictures)


def configured(settings: Settings) -> list[tuple[str, ...]]:
    """Name, resolution, dtype, device and source of each instance, without loading any. Errors: CheckpointError."""
    rows: list[tuple[str, ...]] = []
    for each in settings.instances or [demo_settings()]:
        side = resolution(_source(each, settings))
        rows.append((each.name, str(side or "not fetched"), each.dtype or "auto", each.device or settings.device, each.source))
    return rows


def demo_settings() -> InstanceSettings:
    """The embedded model, which is served where no instance is configured."""
    return InstanceSettings(name=DEMO, source=str(files("service.demo") / "checkpoints" / DEMO))


def _source(wanted: InstanceSettings, settings: Settings) -> Source:
    mask_decoder = None if wanted.mask_decoder is None else Path(wanted.mask_decoder)
    return Source(wanted.source, wanted.revision, wanted.dtype, wanted.device or settings.device, mask_decoder)


def _blank_picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()

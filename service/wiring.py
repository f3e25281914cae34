"""Builds everything from settings and plugs it together. The parts take plain values and one another; nothing here decides."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from PIL import Image

from service.engine.device import Device
from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.vision_cache import VisionCache
from service.engine.workers import Workers
from service.errors import Draining, ModelNotReady
from service.fetching import FetchLimits, ImageFetcher
from service.instances.catalogue import Catalogue
from service.instances.description import ModelDescription
from service.instances.instance import Instance, warm_up
from service.machine import cores, memory_bytes
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Checkpoint, Source, open_checkpoint, resolution, set_threads
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import NARROW, SlidingWindow
from service.observability import logs
from service.observability.metrics import Metrics
from service.settings import InstanceSettings, Settings
from service.tasks.tasks import ALL_TASKS, Tasks

logger = logging.getLogger(__name__)

DEMO = "shapes-224"
STUCK_AFTER = 60.0
"""Seconds after which a step that does not end means that the process is not alive."""
MEMORY_FOR_COPIES = 0.25
"""The part of main memory that several processes' copies of a CPU's weights may take."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """Slots of each process where none are configured, and the tokens of a prefill step at most."""

    slots: int
    prefill_tokens: int


ON_ACCELERATOR = StepPolicy(slots=64, prefill_tokens=2048)
"""A step costs the same for few rows and for many; about 12 ms of prefill on an H100 at 224 pixels."""
ON_CPU = StepPolicy(slots=10, prefill_tokens=512)
"""Every row costs its own time: who waits for a slot loses nothing, and who holds one is done sooner."""


class PaliServe:
    """The running service: what every transport is given."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Loads every instance; takes as long as that takes. Errors: CheckpointError."""
        self.metrics = metrics
        self.draining = False
        self._warm = False
        self._fetcher = ImageFetcher(
            FetchLimits(
                settings.image_url_hosts,
                settings.image_url_http,
                settings.image_url_private,
                settings.image_url_seconds,
                settings.max_image_bytes,
            )
        )
        threads = settings.threads or cores()
        # Where the models run elsewhere, only mask decoders compute here, several at once.
        set_threads(threads if settings.workers == 0 else 1)
        self._workers = ThreadPoolExecutor(max_workers=cores(), thread_name_prefix="work")
        self.images = ImageReader(ImageLimits(settings.max_image_bytes, settings.max_image_pixels))
        wanted = settings.instances or (demo_settings(),)
        checkpoints = [open_checkpoint(_source(each, settings)) for each in wanted]
        self._devices = devices(checkpoints, settings, threads)
        self._instances = [self._instance(each, checkpoint, settings) for each, checkpoint in zip(wanted, checkpoints, strict=True)]
        self.catalogue = Catalogue(self._instances)
        self.tasks = Tasks(self.catalogue, self.images.size, self._workers, settings.default_timeout_seconds)

    async def start(self) -> None:
        """Warm every instance up."""
        for device in self._devices.values():
            device.start()
        for instance in self._instances:
            began = time.monotonic()
            await warm_up(instance, blank_picture(), self._workers)
            logger.info("%s is warm (%.1f s)", instance.name, time.monotonic() - began)
        self._warm = True

    def drain(self) -> None:
        """Take nothing new from now on."""
        self.draining = True

    def idle(self) -> bool:
        """Whether no request waits or runs."""
        return not any(instance.engine.waiting or instance.engine.running for instance in self._instances)

    async def stop(self) -> None:
        """Finish what was accepted, then end the threads."""
        self.drain()
        for device in self._devices.values():
            await asyncio.to_thread(device.stop)
        self._workers.shutdown()
        await self._fetcher.close()

    def models(self) -> Sequence[ModelDescription]:
        """What is served, the default first."""
        return self.catalogue.descriptions()

    def model(self, name: str) -> ModelDescription:
        """Errors: ModelNotFound."""
        return self.catalogue.named(name).description

    async def fetch_image(self, url: str) -> bytes:
        """See ``ImageFetcher``."""
        return await self._fetcher.fetch(url)

    def alive(self) -> bool:
        """Whether every device works and none is stuck in a step."""
        return all(device.is_alive(STUCK_AFTER) for device in self._devices.values())

    def ready(self) -> None:
        """Errors: Draining, ModelNotReady."""
        if self.draining:
            raise Draining("This process is stopping: send the request to another one.")
        if not self._warm:
            raise ModelNotReady("The models are being warmed up: try again in a few seconds.")

    def _instance(self, wanted: InstanceSettings, checkpoint: Checkpoint, settings: Settings) -> Instance:
        began = time.monotonic()
        weights = checkpoint.weights
        device = self._devices[weights.device]
        policy = ON_CPU if weights.device == "cpu" else ON_ACCELERATOR
        options = ServingOptions(
            slots=-(-wanted.slots // device.copies) if wanted.slots else policy.slots,
            max_prompt_tokens=wanted.max_prompt_tokens,
            max_tokens=wanted.max_tokens,
            sliding_window=SlidingWindow(wanted.sliding_window),
            compile=wanted.compile,
        )
        model = PaliGemma(checkpoint, options, self.images)
        description = ModelDescription(
            name=wanted.name,
            resolution=model.resolution,
            dtype=weights.dtype,
            device=weights.device,
            state="warm",
            tasks=tuple(task.name for task in ALL_TASKS),
            adapters=(),
            max_tokens=model.max_tokens,
            source=Path(wanted.source).name if Path(wanted.source).is_dir() else wanted.source,
            created=int(time.time()),
        )
        engine = Engine(wanted.name, device, EngineLimits(settings.max_queue, policy.prefill_tokens), self.metrics)
        facts = engine.load(model.make_runner)
        # Every process may hold the features; the pixels stay here, so that any of them can be asked.
        picture_bytes = facts.feature_bytes * device.copies + 3 * model.resolution**2
        pictures = VisionCache(wanted.name, wanted.vision_cache_bytes, picture_bytes, self.metrics)
        loaded = (wanted.name, description.source, weights.dtype, weights.device, time.monotonic() - began)
        logger.info("%s is loaded: %s, %s, %s (%.1f s)", *loaded)
        return Instance(description, model, engine, pictures, model.lexicon(facts))


def devices(checkpoints: Sequence[Checkpoint], settings: Settings, threads: int) -> dict[str, Device]:
    """What runs the models, by the name of the device.

    Each in a process of its own, a CPU in as many as it has cores where so many copies of the weights fit; of narrow models one less,
    because reading requests and pictures then takes about a core. Or, with ``workers`` 0, all in this one.
    """
    made: dict[str, Device] = {}
    narrow = all(checkpoint.config.text_config.hidden_size < NARROW for checkpoint in checkpoints)
    weights = [checkpoint.weights for checkpoint in checkpoints]
    for name in sorted({each.device for each in weights}):
        if settings.workers == 0:
            made[name] = DeviceLoop(threads=lambda: threads)
            continue
        # Files may hold half of what float32 needs.
        held = 2 * sum(each.file_bytes for each in weights if each.device == name)
        fitting = max(1, int(MEMORY_FOR_COPIES * memory_bytes() / held))
        count = settings.workers or (max(1, min(threads - narrow, fitting)) if name == "cpu" else 1)
        begin = partial(logs.configure, settings.log_format, settings.log_level)
        made[name] = Workers(count, threads, begin, preload=["service.model.paligemma"])
    return made


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


def blank_picture() -> bytes:
    """A file that any model can read."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()

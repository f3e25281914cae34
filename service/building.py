"""Makes instances of what is configured: what they are before they are loaded, the devices they run on, and the loaded ones."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from service.engine.device import Device
from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.vision_cache import VisionCache
from service.engine.workers import Workers
from service.instance_settings import InstanceSettings
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.instances.keeper import State
from service.instances.shelf import AdapterShelf
from service.machine import cores
from service.model.adapters import AdapterError, adapter_folder, read_adapter
from service.model.folder_rights import check_compile_cache
from service.model.hub import HUB_ID
from service.model.image_workers import ImageWorkers
from service.model.images import ImageLimits, ImageReader, Images
from service.model.loading import CheckpointError, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import SlidingWindow
from service.observability import logs
from service.observability.metrics import Metrics
from service.planning import Planned, check_memory, demo_settings, image_workers, planned, source
from service.settings import Settings
from service.tasks.asks import ALL_TASKS

logger = logging.getLogger(__name__)


class Builder:
    """Makes what ``settings`` ask for."""

    def __init__(self, settings: Settings, metrics: Metrics, images: Images, threads: int) -> None:
        """Fetches what is to be loaded at once and is not here yet. Errors: CheckpointError."""
        self._settings = settings
        self._metrics = metrics
        self._images = images
        wanted = settings.instances or demo_settings()
        self._opened = {each.name: open_checkpoint(source(each, settings)) for each in wanted if each.preload}
        self.planned = planned(settings)
        self.plans = {name: _description(each) for name, each in self.planned.items()}
        for name, each in self.planned.items():
            if each.wanted.preload:
                # Before its processes are started, as well as when it is built, beside those that were built then.
                check_memory(name, each)
        self.devices: Mapping[str, Device] = {
            each.device: _device(each, settings, threads, partial(metrics.worker_restarted, each.device))
            for each in _one_of_each(self.planned)
        }

    def build(self, name: str) -> Instance:
        """Load an instance. Takes as long as that takes. Errors: CheckpointError."""
        began = time.monotonic()
        one, settings = self.planned[name], self._settings
        checkpoint = self._opened.pop(name, None) or open_checkpoint(source(one.wanted, settings))
        check_memory(name, one)
        device, wanted = self.devices[one.device], one.wanted
        if wanted.compile:
            check_compile_cache()
        options = ServingOptions(
            slots=one.shape.slots,
            max_prompt_tokens=wanted.max_prompt_tokens,
            max_tokens=wanted.max_tokens,
            sliding_window=SlidingWindow(wanted.sliding_window),
            compile=wanted.compile,
            adapters=wanted.adapter_places,
            adapter_rank=wanted.max_adapter_rank,
            images=wanted.max_images,
        )
        model = PaliGemma(checkpoint, options, self._images)
        _check_resolution(wanted, model.resolution)
        description = replace(self.plans[name], resolution=model.resolution, created=int(time.time()))
        engine = Engine(
            name, device, EngineLimits(settings.max_queue, settings.max_queue_seconds, one.policy.prefill_tokens), self._metrics
        )
        facts = engine.load(model.make_runner)
        # Every process may hold the features; the pixels stay here, so that any of them can be asked.
        picture_bytes = facts.feature_bytes * device.copies + 3 * model.resolution**2
        pictures = VisionCache(name, wanted.vision_cache_bytes, picture_bytes, self._metrics)
        logger.info("%s is loaded: %s, %s, %s (%.1f s)", name, description.source, one.dtype, one.device, time.monotonic() - began)
        put, clear = partial(_adopt, device, name, description.source), partial(device.abandon, name)
        shelf = AdapterShelf(name, wanted.adapter_places, put, clear)
        return Instance(description, model, engine, pictures, model.lexicon(facts), shelf, wanted.prompt_style, wanted.max_images)


class PictureReading:
    """Where pictures are read: in processes of their own or, with ``image_workers`` 0, in threads of this one.

    ``threads`` are as many as pictures can be read at once: further ones wait there, and are not read if their callers leave.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        limits, count = ImageLimits(settings.max_image_bytes, settings.max_image_pixels), image_workers(settings)
        self._workers = ImageWorkers(count, limits, settings.image_seconds, metrics.image_worker_restarted) if count else None
        self.images: Images = self._workers or ImageReader(limits)
        self.threads = ThreadPoolExecutor(max_workers=count or cores(), thread_name_prefix="image")

    async def start(self) -> None:
        """Errors: OperatorError."""
        if self._workers is not None:
            await asyncio.to_thread(self._workers.start)

    async def close(self) -> None:
        """End at once what is still being read."""
        if self._workers is not None:
            await asyncio.to_thread(self._workers.close)
        self.threads.shutdown(cancel_futures=True)


def _description(one: Planned) -> ModelDescription:
    """What is known before it is loaded."""
    wanted = one.wanted
    if one.survey is not None:
        _check_resolution(wanted, one.survey.resolution)
    side = one.survey.resolution if one.survey else wanted.resolution
    if side is None:
        raise CheckpointError(f"{wanted.name}: it is to be fetched when it is asked for; say its resolution until then, in pixels.")
    return ModelDescription(
        name=wanted.name,
        resolution=side,
        dtype=one.dtype,
        device=one.device,
        state=State.COLD.value,
        tasks=tuple(task.name for task in ALL_TASKS),
        adapters=(),
        max_tokens=wanted.max_tokens,
        source=Path(wanted.source).name if Path(wanted.source).is_dir() else wanted.source,
        created=int(time.time()),
    )


def _adopt(device: Device, instance: str, base: str, place: int, source: str, revision: str | None) -> bool:
    """Put an adapter to its place; whether it changes how pictures are seen. Errors: AdapterError, OperatorError."""
    folder = adapter_folder(source, revision)
    adapter = read_adapter(folder)
    meant = adapter.base.rstrip("/").rpartition("/")[2]
    if HUB_ID.fullmatch(base) and meant and meant != base.rpartition("/")[2]:
        raise AdapterError(f"{source}: it was trained on {adapter.base}, and {instance} is {base}: another base.")
    device.adopt(instance, place, str(folder))
    return adapter.sees


def _check_resolution(wanted: InstanceSettings, found: int) -> None:
    if wanted.resolution not in (None, found):
        raise CheckpointError(f"{wanted.name}: the checkpoint takes {found} pixels, not {wanted.resolution}.")


def _one_of_each(made: Mapping[str, Planned]) -> list[Planned]:
    """One instance of each device."""
    return list({each.device: each for each in made.values()}.values())


def _device(one: Planned, settings: Settings, threads: int, replaced: Callable[[], None]) -> Device:
    """What runs a device's instances: processes of their own, or with ``workers`` 0 a thread of this one."""
    if settings.workers == 0:
        return DeviceLoop(threads=lambda: threads)
    begin = partial(logs.configure, settings.log_format, settings.log_level)
    return Workers(one.shape.copies, threads, begin, preload=["service.model.preloaded"], replaced=replaced)


def blank_picture() -> bytes:
    """A file that any model can read."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()

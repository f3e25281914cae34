"""Makes instances of what is configured: what they are before they are loaded, the devices they run on, and the loaded ones."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.instances.keeper import State
from service.machine import memory_bytes
from service.model.images import ImageReader
from service.model.loading import CheckpointError, Source, Survey, held_as, open_checkpoint, survey
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import NARROW, SlidingWindow
from service.observability import logs
from service.observability.metrics import Metrics
from service.settings import InstanceSettings, Settings
from service.tasks.tasks import ALL_TASKS

logger = logging.getLogger(__name__)

DEMO = "shapes-224"
UNKNOWN_BYTES = 6_000_000_000
"""Taken for a checkpoint that is not here yet: PaliGemma 3B's in half precision."""
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


class Builder:
    """Makes what ``settings`` ask for."""

    def __init__(self, settings: Settings, metrics: Metrics, images: ImageReader, threads: int) -> None:
        """Fetches what is to be loaded at once and is not here yet. Errors: CheckpointError."""
        self._settings = settings
        self._metrics = metrics
        self._images = images
        self.wanted = {each.name: each for each in settings.instances or (demo_settings(),)}
        self._opened = {name: open_checkpoint(_source(each, settings)) for name, each in self.wanted.items() if each.preload}
        self._surveys = {name: survey(_source(each, settings)) for name, each in self.wanted.items()}
        self.plans = {name: self._plan(each) for name, each in self.wanted.items()}
        found = [(self.plans[name].device, each) for name, each in self._surveys.items()]
        self.devices: Mapping[str, Device] = devices(found, settings, threads)

    def build(self, name: str) -> Instance:
        """Load an instance. Takes as long as that takes. Errors: CheckpointError."""
        began = time.monotonic()
        wanted, settings = self.wanted[name], self._settings
        checkpoint = self._opened.pop(name, None) or open_checkpoint(_source(wanted, settings))
        weights = checkpoint.weights
        device = self.devices[weights.device]
        policy = ON_CPU if weights.device == "cpu" else ON_ACCELERATOR
        options = ServingOptions(
            slots=-(-wanted.slots // device.copies) if wanted.slots else policy.slots,
            max_prompt_tokens=wanted.max_prompt_tokens,
            max_tokens=wanted.max_tokens,
            sliding_window=SlidingWindow(wanted.sliding_window),
            compile=wanted.compile,
        )
        model = PaliGemma(checkpoint, options, self._images)
        self._check_resolution(wanted, model.resolution)
        description = replace(self.plans[name], resolution=model.resolution, created=int(time.time()))
        engine = Engine(name, device, EngineLimits(settings.max_queue, policy.prefill_tokens), self._metrics)
        facts = engine.load(model.make_runner)
        # Every process may hold the features; the pixels stay here, so that any of them can be asked.
        picture_bytes = facts.feature_bytes * device.copies + 3 * model.resolution**2
        pictures = VisionCache(name, wanted.vision_cache_bytes, picture_bytes, self._metrics)
        loaded = (name, description.source, weights.dtype, weights.device, time.monotonic() - began)
        logger.info("%s is loaded: %s, %s, %s (%.1f s)", *loaded)
        return Instance(description, model, engine, pictures, model.lexicon(facts))

    def _plan(self, wanted: InstanceSettings) -> ModelDescription:
        """What is known before it is loaded."""
        found = self._surveys[wanted.name]
        if found is not None:
            self._check_resolution(wanted, found.resolution)
        side = found.resolution if found else wanted.resolution
        if side is None:
            raise CheckpointError(f"{wanted.name}: it is to be fetched when it is asked for; say its resolution until then, in pixels.")
        device, dtype = held_as(_source(wanted, self._settings))
        return ModelDescription(
            name=wanted.name,
            resolution=side,
            dtype=dtype,
            device=device,
            state=State.COLD.value,
            tasks=tuple(task.name for task in ALL_TASKS),
            adapters=(),
            max_tokens=wanted.max_tokens,
            source=Path(wanted.source).name if Path(wanted.source).is_dir() else wanted.source,
            created=int(time.time()),
        )

    @staticmethod
    def _check_resolution(wanted: InstanceSettings, found: int) -> None:
        if wanted.resolution not in (None, found):
            raise CheckpointError(f"{wanted.name}: the checkpoint takes {found} pixels, not {wanted.resolution}.")


def devices(found: Sequence[tuple[str, Survey | None]], settings: Settings, threads: int) -> dict[str, Device]:
    """What runs the models, by the name of the device. ``found``: for each instance its device, and its checkpoint where that is here.

    Each in a process of its own, a CPU in as many as it has cores where so many copies of the weights fit; of narrow models one less,
    because reading requests and pictures then takes about a core. Or, with ``workers`` 0, all in this one.
    """
    made: dict[str, Device] = {}
    narrow = all(each is not None and each.hidden_size < NARROW for _, each in found)
    for name in sorted({device for device, _ in found}):
        if settings.workers == 0:
            made[name] = DeviceLoop(threads=lambda: threads)
            continue
        # Files may hold half of what float32 needs.
        held = 2 * sum(each.file_bytes if each else UNKNOWN_BYTES for device, each in found if device == name)
        fitting = max(1, int(MEMORY_FOR_COPIES * memory_bytes() / held))
        count = settings.workers or (max(1, min(threads - narrow, fitting)) if name == "cpu" else 1)
        begin = partial(logs.configure, settings.log_format, settings.log_level)
        made[name] = Workers(count, threads, begin, preload=["service.model.paligemma"])
    return made


def configured(settings: Settings) -> list[tuple[str, ...]]:
    """Name, resolution, dtype, device and source of each instance, without loading any. Errors: CheckpointError."""
    rows: list[tuple[str, ...]] = []
    for each in settings.instances or [demo_settings()]:
        found = survey(_source(each, settings))
        side = found.resolution if found else each.resolution
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

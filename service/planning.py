"""What of the machine the configured instances are to take: devices, processes, slots, memory. Nothing is loaded to know it."""

import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.demo.family import ADAPTER, CHECKPOINTS, FAMILY, MASK_DECODER
from service.errors import OperatorError
from service.instance_settings import AdapterSettings, InstanceSettings
from service.machine import cores, free_memory_bytes, memory_bytes
from service.model.image_worker import memory_bytes as image_memory_bytes
from service.model.images import ImageLimits
from service.model.loading import Source, Survey, free_bytes, held_as, survey
from service.model.memory_plan import MemoryPlan, Shape, plan, slot_bytes
from service.model.runner import NARROW
from service.settings import Settings

GIGABYTE = 1e9
HEAD = ("INSTANCE", "DEVICE", "DTYPE", "SLOTS", "WEIGHTS", "KV SLOTS", "ACTIVATIONS", "GRAPHS", "CACHE UP TO", "TOTAL", "MORE SLOTS FIT")

UNKNOWN_BYTES = 6_000_000_000
"""Taken for a checkpoint that is not here yet: PaliGemma 3B's in half precision."""
MEMORY_FOR_COPIES = 0.25
"""The part of main memory that several processes' copies of a CPU's weights may take."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """Slots of each process where none are configured, the most that are of use, and the tokens of a prefill step at most."""

    slots: int
    most_slots: int
    prefill_tokens: int


MOST_IMAGE_WORKERS = 4
"""Where none are configured. Four decode more pictures than most models answer about; each may take a gigabyte for the largest ones."""

FOR_SLOTS = 0.9
"""The part of the free memory that instances may fill with slots where they are to choose their number."""

ON_ACCELERATOR = StepPolicy(slots=64, most_slots=256, prefill_tokens=2048)
"""A step costs the same for few rows and for many; about 12 ms of prefill on an H100 at 224 pixels."""
ON_CPU = StepPolicy(slots=10, most_slots=10, prefill_tokens=512)
"""Every row costs its own time: who waits for a slot loses nothing, and who holds one is done sooner."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An instance before it is loaded. ``survey`` and ``memory`` are None for a checkpoint that is not here yet."""

    wanted: InstanceSettings
    device: str
    dtype: str
    survey: Survey | None
    shape: Shape
    memory: MemoryPlan | None

    @property
    def policy(self) -> StepPolicy:
        """How its device is stepped."""
        return policy_of(self.device)

    @property
    def may_go(self) -> bool:
        """Whether it may be unloaded to give room to another one."""
        return not (self.wanted.preload or self.wanted.pinned)

    def more_slots(self, free: int) -> int:
        """How many slots it could have beside what it takes, in ``free`` bytes more."""
        if self.survey is None:
            return 0
        return free // (slot_bytes(self.survey.config, self.shape) * self.shape.copies) * self.shape.copies


def policy_of(device: str) -> StepPolicy:
    """How a device is stepped."""
    return ON_CPU if device == "cpu" else ON_ACCELERATOR


def planned(settings: Settings) -> dict[str, Planned]:
    """All that is configured, by name. Errors: CheckpointError."""
    wanted = settings.instances or demo_settings()
    sources = {each.name: source(each, settings) for each in wanted}
    held = {name: held_as(each) for name, each in sources.items()}
    surveys = {name: survey(each) for name, each in sources.items()}
    counts = copies([(held[name][0], surveys[name]) for name in sources], settings)
    made = {}
    for each in wanted:
        device, dtype = held[each.name]
        made[each.name] = _planned(each, device, dtype, (surveys[each.name], _shape(each, device, dtype, counts[device])))
    for device in counts:
        room = min(int(FOR_SLOTS * free_on(device)), settings.instance_memory_bytes or sys.maxsize)
        made |= _with_slots({name: each for name, each in made.items() if each.device == device}, room)
    return made


def _planned(wanted: InstanceSettings, device: str, dtype: str, found: tuple[Survey | None, Shape]) -> Planned:
    seen, shape = found
    return Planned(wanted, device, dtype, seen, shape, None if seen is None else plan(seen.config, shape))


def _with_slots(of_this: Mapping[str, Planned], room: int) -> dict[str, Planned]:
    """Those of a device that leave their slots to us, with as many as are of use and fit into ``room`` bytes.

    Each has the same share of what the rest leaves.
    """
    asking = {name: (each, each.survey) for name, each in of_this.items() if each.wanted.slots == "auto" and each.survey}
    if not asking:
        return {}
    share = (room - sum(each.memory.total for name, each in of_this.items() if each.memory and name not in asking)) // len(asking)
    return {name: _fitted(each, survey, share) for name, (each, survey) in asking.items()}


def _fitted(one: Planned, survey: Survey, room: int) -> Planned:
    def with_slots(count: int) -> Shape:
        return replace(one.shape, slots=count)

    counts = range(1, one.policy.most_slots + 1)
    fitting = bisect_right(counts, room, key=lambda count: plan(survey.config, with_slots(count)).total)
    return _planned(one.wanted, one.device, one.dtype, (survey, with_slots(max(1, fitting))))


def free_on(device: str) -> int:
    """Bytes of a device's memory that may still be taken."""
    return free_memory_bytes() if device == "cpu" else free_bytes(device)


def copies(found: Sequence[tuple[str, Survey | None]], settings: Settings) -> dict[str, int]:
    """Processes of each device, which hold all of its instances each.

    ``found``: for each instance its device, and its checkpoint where that is here.

    One for an accelerator; a CPU has as many as it has cores where so many copies of the weights fit; of narrow models one less, because
    reading requests and pictures then takes about a core.
    """
    threads = settings.threads or cores()
    narrow = all(each is not None and each.hidden_size < NARROW for _, each in found)
    made = {}
    for name in sorted({device for device, _ in found}):
        # Files may hold half of what float32 needs.
        held = 2 * sum((each.file_bytes if each else 0) or UNKNOWN_BYTES for device, each in found if device == name)
        fitting = max(1, int(MEMORY_FOR_COPIES * memory_bytes() / held))
        several = settings.workers or (max(1, min(threads - narrow, fitting)) if name == "cpu" else 1)
        made[name] = 1 if settings.workers == 0 else several
    return made


def image_workers(settings: Settings) -> int:
    """Processes that decode pictures; 0: threads of this one do, as many as it has cores."""
    return min(cores(), MOST_IMAGE_WORKERS) if settings.image_workers is None else settings.image_workers


def check_memory(name: str, one: Planned) -> None:
    """Errors: OperatorError, with the sum, where an instance does not fit beside what runs already."""
    free = free_on(one.device)
    if one.memory is None or one.memory.needed <= free:
        return
    memory = one.memory
    sizes = {"weights": memory.weights, "slots": memory.slots, "activations": memory.activations, "graphs": memory.graphs}
    parts = ", ".join(f"{part} {_told(size)}" for part, size in sizes.items())
    times = f"in {one.shape.copies} processes " if one.shape.copies > 1 else ""
    raise OperatorError(
        f"{name} takes {_told(one.memory.needed)} on {one.device} {times}({parts}), and {_told(free)} are free: "
        "give it fewer slots, fewer tokens, fewer workers or a smaller dtype, or unload another one."
    )


def table(settings: Settings) -> list[tuple[str, ...]]:
    """For each instance what it takes, for each device all of it against what is free; at last pictures. Errors: CheckpointError."""
    rows: list[tuple[str, ...]] = [HEAD]
    made = planned(settings)
    for device in sorted({each.device for each in made.values()}):
        of_this = {name: each for name, each in made.items() if each.device == device}
        free = free_on(device)
        total = sum(each.memory.total for each in of_this.values() if each.memory)
        for name, each in of_this.items():
            slots = f"{each.shape.slots * each.shape.copies}"
            if each.memory is None:
                rows.append((name, device, each.dtype, slots, *["not fetched"] * 6, ""))
                continue
            memory = each.memory
            told = (_told(size) for size in (memory.weights, memory.slots, memory.activations, memory.graphs, memory.cache, memory.total))
            rows.append((name, device, each.dtype, slots, *told, str(each.more_slots(max(0, free - total)))))
        count = next(iter(of_this.values())).shape.copies
        rows.append(
            (f"all of {device}", device, "", f"{count} processes" if count > 1 else "", *[""] * 5, _told(total), f"{_told(free)} free")
        )
    count = image_workers(settings)
    most = (count or cores()) * image_memory_bytes(ImageLimits(settings.max_image_bytes, settings.max_image_pixels))
    rows.append(("pictures", "cpu", "", f"{count} processes" if count else "", *[""] * 5, f"up to {_told(most)}", ""))
    return rows


def configured(settings: Settings) -> list[tuple[str, ...]]:
    """Name, resolution, dtype, device and source of each instance, without loading any. Errors: CheckpointError."""
    rows: list[tuple[str, ...]] = []
    for each in settings.instances or demo_settings():
        found = survey(source(each, settings))
        side = found.resolution if found else each.resolution
        rows.append((each.name, str(side or "not fetched"), each.dtype or "auto", each.device or settings.device, each.source))
    return rows


def demo_settings() -> tuple[InstanceSettings, ...]:
    """The embedded models, which are served where no instance is configured; the first one has an adapter."""
    adapters = (AdapterSettings(name="part-codes", source=str(ADAPTER)),)
    return tuple(
        InstanceSettings(
            name=member.name,
            source=str(CHECKPOINTS / member.checkpoint),
            enlarge=1 if member.enlarge == 1 else 2,
            mask_decoder=str(MASK_DECODER),
            adapters=adapters if member is FAMILY[0] else (),
            max_adapter_rank=8,
        )
        for member in FAMILY
    )


def source(wanted: InstanceSettings, settings: Settings) -> Source:
    """Where an instance's checkpoint is, and how it is to be held."""
    mask_decoder = None if wanted.mask_decoder is None else Path(wanted.mask_decoder)
    device = wanted.device or settings.device
    return Source(wanted.source, wanted.revision, wanted.dtype, device, mask_decoder, wanted.enlarge, wanted.quantization)


def _shape(wanted: InstanceSettings, device: str, dtype: str, count: int) -> Shape:
    policy = policy_of(device)
    return Shape(
        device=device,
        dtype=dtype,
        slots=-(-wanted.slots // count) if isinstance(wanted.slots, int) else policy.slots,
        text_tokens=wanted.max_prompt_tokens + wanted.max_tokens,
        prompt_tokens=wanted.max_prompt_tokens,
        prefill_tokens=policy.prefill_tokens,
        cache_bytes=wanted.vision_cache_bytes,
        copies=count,
        images=wanted.max_images,
        adapters=wanted.adapter_places,
        adapter_rank=wanted.max_adapter_rank,
        quantization=wanted.quantization,
    )


def _told(size: int) -> str:
    return f"{size / GIGABYTE:.2f} GB"

"""How long the parts of a request take: measured on a machine, or computed for an accelerator that is not here."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.planning import ON_ACCELERATOR


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a step: ``fixed``, and ``each`` for every picture, token or row in it."""

    fixed: float
    each: float

    def of(self, count: int) -> float:
        """Seconds for so many."""
        return self.fixed + self.each * count


@dataclass(frozen=True, slots=True)
class InstanceTimes:
    """One instance: what a step costs, and the sizes that its policy depends on. ``kept_pictures`` is how many its vision cache holds."""

    image_tokens: int
    slots: int
    prefill_tokens: int
    kept_pictures: int
    vision: Cost
    prefill: Cost
    decode: Cost


@dataclass(frozen=True, slots=True)
class FrontTimes:
    """The process that reads and answers, in seconds of its processor time.

    ``before`` and ``after`` the engine are by kind of request, "" for any other; both run one at a time. ``picture`` is decoding and
    resizing, on one of ``decoders`` cores; 0: there is no core beside the first. ``refusal``: reading and refusing. ``hop``: the way
    to a worker and back, which takes time and no processor.
    """

    before: dict[str, float]
    after: dict[str, float]
    picture: float
    refusal: float
    hop: float
    decoders: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaTimes:
    """A whole replica. ``origin`` says where the figures come from."""

    origin: str
    front: FrontTimes
    instances: dict[str, InstanceTimes]
    workers: int = 1
    queue: int = 256
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "ReplicaTimes":
        """Read what ``save`` wrote."""
        read = json.loads(path.read_text())
        instances = {
            name: InstanceTimes(**(each | {phase: Cost(**each[phase]) for phase in ("vision", "prefill", "decode")}))
            for name, each in read["instances"].items()
        }
        return cls(**(read | {"front": FrontTimes(**read["front"]), "instances": instances}))


@dataclass(frozen=True, slots=True)
class Roofline:
    """PaliGemma 1 3B in bfloat16 on an H100, at its limits: milliseconds that operations and bytes take at the least.

    From 798 TFLOP/s and 3.0 TB/s: 0.219 and 0.974 TFLOP of vision, 1.090 and 4.283 of prefill with 16 text tokens; a decode step reads
    5.02 GB of weights and the keys and values of its rows.
    """

    image_tokens: int
    vision: float
    prefill: float
    decode: float
    decode_row: float


TEXT_TOKENS = 16
ROOFLINES = {
    224: Roofline(256, 0.27, 1.37, 1.673, 0.00168),
    448: Roofline(1024, 1.22, 5.37, 1.674, 0.0064),
}
FEATURE_BYTES = 2 * 2048
"""Of a picture's token, in bfloat16."""

BOOKKEEPING = 50e-6
"""Seconds of Python in a step; ``make bench-front-end`` measured 25 to 45 µs at 32 live requests."""


@dataclass(frozen=True, slots=True)
class Host:
    """The processor beside an accelerator. Seconds; measured on a CPU that need not be like it."""

    request: float
    picture: float
    cores: int


def computed(side: int, efficiency: float, host: Host, cache_bytes: int = 256_000_000) -> ReplicaTimes:
    """A replica on one H100 that reaches ``efficiency`` of the roofline in every phase. Computed, not measured."""
    limit = ROOFLINES[side]
    reached = 1e-3 / efficiency
    held = limit.image_tokens * FEATURE_BYTES + 3 * side**2
    instance = InstanceTimes(
        image_tokens=limit.image_tokens,
        slots=ON_ACCELERATOR.slots,
        prefill_tokens=ON_ACCELERATOR.prefill_tokens,
        kept_pictures=cache_bytes // held,
        vision=Cost(0.0, limit.vision * reached),
        prefill=Cost(BOOKKEEPING, limit.prefill * reached / (limit.image_tokens + TEXT_TOKENS)),
        decode=Cost(BOOKKEEPING + limit.decode * reached, limit.decode_row * reached),
    )
    half = host.request / 2
    front = FrontTimes({"": half}, {"": half}, host.picture, half, 0.0005, host.cores)
    origin = f"computed: roofline of an H100, {efficiency:.0%} of it reached"
    return ReplicaTimes(origin, front, {f"paligemma-{side}": instance})

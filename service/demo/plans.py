"""How the models of the family are trained: all that decides what comes out, besides the machine's rounding."""

from dataclasses import dataclass
from pathlib import Path

from service.demo.codec import CodecPlan
from service.demo.family import CHECKPOINTS
from service.demo.optimiser import Rates
from service.demo.pages import PACKED, UNPACKED, Layout
from service.demo.pool import Canvas

WARM_UP = 100


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """A part of the training. The rate rises over ``WARM_UP`` steps, stays, and falls to ``low`` over the last ``cooling`` part of it."""

    name: str
    steps: int
    layout: Layout
    rates: Rates
    cooling: float
    low: float
    text: bool = True
    spread: tuple[float, float] = (1.5, 1.5)
    weights: tuple[float, float] = (0.5, 0.4)
    absent_share: float = 0.12

    def rate(self, step: int) -> float:
        """Part of the full rate at a step."""
        rising = min(1.0, (step + 1) / WARM_UP)
        falling = min(1.0, (1 - step / self.steps) / self.cooling)
        return rising * (self.low + (1 - self.low) * falling)

    def spread_at(self, step: int) -> float:
        """How many bins wide a location target is at a step."""
        start, end = self.spread
        return float(start * (end / start) ** min(1.0, step / self.steps / 0.8))


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what comes out, besides the machine's rounding. ``start``: the checkpoint to go on from; None: from nothing."""

    work: Path
    out: Path
    start: Path | None
    canvas: Canvas
    processes: int
    scenes: int
    seed: int
    codec: CodecPlan
    phases: tuple[PhasePlan, ...]


def phases(see: int, joint: int, unpacked: int, refine: int) -> tuple[PhasePlan, ...]:
    """See: the tower learns what patches show. Joint: many questions on one picture. Unpacked: PaliGemma's own mask, as it is served.

    Refine: as unpacked, slower, with many absent names, which a list tempts to box.
    """
    return (
        PhasePlan("see", see, PACKED, Rates(5e-3, 2e-3), cooling=0.5, low=0.1, text=False),
        PhasePlan("joint", joint, PACKED, Rates(5e-3, 2e-3), cooling=0.6, low=0.05, spread=(6.0, 0.7)),
        PhasePlan("unpacked", unpacked, UNPACKED, Rates(1.2e-3, 4e-4), cooling=1.0, low=0.02, spread=(0.7, 0.4)),
        PhasePlan("refine", refine, UNPACKED, Rates(8e-4, 3e-4), cooling=1.0, low=0.02, spread=(0.4, 0.4), absent_share=0.3),
    )


def finer_phases(see: int, joint: int, unpacked: int) -> tuple[PhasePlan, ...]:
    """As ``phases``, from a model that knows all of it at another size."""
    return (
        PhasePlan("see", see, PACKED, Rates(3e-3, 1.2e-3), cooling=0.5, low=0.1, text=False),
        PhasePlan("joint", joint, PACKED, Rates(3e-3, 1.2e-3), cooling=0.7, low=0.05, spread=(3.0, 0.5)),
        PhasePlan("unpacked", unpacked, UNPACKED, Rates(1.2e-3, 4e-4), cooling=1.0, low=0.02, spread=(0.5, 0.4), absent_share=0.25),
    )


def base_plan(work: Path) -> Plan:
    """shapes-224, from nothing."""
    return Plan(
        work=work / "224",
        out=CHECKPOINTS / "shapes-224",
        start=None,
        canvas=Canvas(),
        processes=3,
        scenes=45_000,
        seed=0,
        codec=CodecPlan(),
        phases=phases(see=4_000, joint=5_500, unpacked=2_400, refine=600),
    )


def finer_plan(work: Path) -> Plan:
    """shapes-448, from shapes-224: 256 patches, and things and letters down to half the size."""
    return Plan(
        work=work / "448",
        out=CHECKPOINTS / "shapes-448",
        start=CHECKPOINTS / "shapes-224",
        canvas=Canvas(448, zoom=(0.4, 1.0), averaged=True),
        processes=3,
        scenes=16_000,
        seed=448,
        codec=CodecPlan(),
        phases=finer_phases(see=1_500, joint=2_600, unpacked=800),
    )


PLANS = {224: base_plan, 448: finer_plan}

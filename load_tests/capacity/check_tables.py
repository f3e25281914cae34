"""The check in words."""

from collections.abc import Sequence
from statistics import median

from load_tests.capacity.calibration import Measured
from load_tests.capacity.checking import LOADS, SECONDS, TIMEOUT, WARMING, Pair
from load_tests.capacity.service_times import Cost
from load_tests.report import spread, table

AIM = 0.2


def text(measured: Sequence[Measured], chosen: Measured, pairs: Sequence[Pair]) -> str:
    """The page."""
    return "\n\n".join(
        [
            "# The simulation of capacity beside the real server",
            f"The embedded models on this machine, {chosen.times.workers} worker process, all tasks in turn, every fifth request to "
            f"`shapes-448` and the rest to `shapes-224`; a picture of its own for each. Arrivals at random (open loop) from a client in a "
            f"process of its own, each with {TIMEOUT:g} s of time; measured from second {WARMING:g} to {SECONDS:g}. Every round is "
            f"calibrated first. The simulation gets the same arrivals of the same kinds; how long each answer becomes is drawn from what "
            f"calibration saw. Medians of {len(measured)} rounds, least–most in brackets.",
            table(
                (
                    "load",
                    "offered/s",
                    "answers/s",
                    "simulated",
                    "off by",
                    "p50, s",
                    "simulated",
                    "p95, s",
                    "simulated",
                    "off by",
                    "lost",
                    "simulated",
                ),
                [_row(load, [each for each in pairs if each.load == load]) for load in LOADS],
            ),
            _verdict(pairs),
            "![Measured and simulated](capacity-check.png)",
            f"Service times that were measured, of the median round (capacity {spread([each.capacity for each in measured])} requests/s):",
            table(("instance", "vision, ms", "prefill, ms", "decode step, ms"), [_costs(name, chosen) for name in chosen.times.instances]),
            f"The process that reads and answers takes {1000 * 2 * chosen.times.front.before['']:.1f} ms of processor time for a request, "
            f"and the way to the worker and back {1000 * chosen.times.front.hop:.1f} ms.",
            f"Strangers kept {spread([each.disturbance.others for each in pairs])} cores busy meanwhile.",
        ]
    )


def _row(load: float, pairs: Sequence[Pair]) -> tuple[str, ...]:
    def of(who: str, name: str) -> list[float]:
        return [getattr(getattr(each, who), name) for each in pairs]

    lost = [f"{median(of(who, 'lost')):.1%}" for who in ("real", "simulated")]
    return (
        f"{load:.0%}", f"{median(each.offered for each in pairs):.1f}",
        spread(of("real", "rate")), spread(of("simulated", "rate")), f"**{_off(pairs, 'rate'):+.0%}**",
        spread(of("real", "p50")), spread(of("simulated", "p50")),
        spread(of("real", "p95")), spread(of("simulated", "p95")), f"**{_off(pairs, 'p95'):+.0%}**", *lost,
    )  # fmt: skip


def _off(pairs: Sequence[Pair], name: str) -> float:
    """The median over rounds of how far the simulation is above what was measured."""
    return float(median(getattr(each.simulated, name) / getattr(each.real, name) - 1 for each in pairs))


def _verdict(pairs: Sequence[Pair]) -> str:
    within = []
    for load in LOADS:
        chosen = [each for each in pairs if each.load == load]
        within += [(load, name, _off(chosen, name)) for name in ("rate", "p95")]
    missed = [f"{name} at {load:.0%} of the capacity ({off:+.0%})" for load, name, off in within if abs(off) > AIM]
    worst = max((_off([pair], name) for pair in pairs for name in ("rate", "p95")), key=abs)
    told = f"{len(within) - len(missed)} of {len(within)} medians are within {AIM:.0%} of what was measured"
    told += f"; of single runs the worst is {worst:+.0%} off."
    return f"{told} Not: {', '.join(missed)}." if missed else told


def _costs(name: str, measured: Measured) -> tuple[str, ...]:
    times = measured.times.instances[name]
    return (name, _told(times.vision, "a picture"), _told(times.prefill, "a token", 4), _told(times.decode, "a row"))


def _told(cost: Cost, unit: str, digits: int = 2) -> str:
    return f"{1000 * cost.fixed:.2f} + {1000 * cost.each:.{digits}f} {unit}"

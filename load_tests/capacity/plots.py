"""Plots of what was simulated, and of the check against the real server."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot

from load_tests.capacity.answering import Answers
from load_tests.capacity.checking import Pair
from load_tests.capacity.fleets import SIZES, Point
from load_tests.capacity.hashing import CACHES, CROWDS, REPLICAS
from load_tests.capacity.scaling import LOW, MOST_PODS, SETTLES, Climb, told_goals
from load_tests.capacity.workload import TARGET

COLOURS = ("#1b6ca8", "#e07a1f", "#4f9d4f", "#8a4f9d")


def draw_load(answers: Answers, path: Path) -> None:
    """Latency and gauges by load."""
    figure, axes = pyplot.subplots(2, len(answers.points), figsize=(11, 7.5), layout="constrained")
    for (side, points), (upper, lower) in zip(answers.points.items(), axes.T, strict=True):
        for size, colour in zip(SIZES, COLOURS, strict=False):
            line = [each for each in points if each.replicas == size]
            label = f"{size} replicas" if size > 1 else "1 replica, or any number at random"
            upper.plot([each.load for each in line], [each.p95 for each in line], color=colour, marker="o", markersize=3, label=label)
        line = [each for each in points if each.replicas == 4]
        for (label, values), colour in zip(_gauges(line), COLOURS, strict=False):
            lower.plot([each.load for each in line], values, color=colour, marker="o", markersize=3, label=label)
        upper.axhline(TARGET, color="#999999", linestyle=":", label="promised")
        upper.set(title=f"{side} px: {answers.capacities[side]:.0f} requests/s a replica (computed)", ylabel="p95, s", ylim=(0, 1.5))
        busy = lower.twinx()
        busy.plot([each.load for each in line], [each.device_busy for each in line], color="#999999", linestyle="--")
        busy.set(ylim=(0, 1.05), ylabel="device busy (dashed)")
        lower.set(xlabel="load, part of the capacity", ylabel="requests for each of 4 replicas", ylim=(0, None))
        for axis, place in ((upper, "upper left"), (lower, "center left")):
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8, loc=place)
    _save(figure, path)


def _gauges(line: Sequence[Point]) -> list[tuple[str, list[float]]]:
    return [("waiting", [each.waiting for each in line]), ("running", [each.running for each in line])]


def draw_ramp(climbs: Sequence[Climb], path: Path) -> None:
    """Replicas that are ready, and those that the load needs."""
    figure, axes = pyplot.subplots(1, len(climbs), figsize=(4 * len(climbs), 4), layout="constrained", sharey=True)
    for climb, axis in zip(climbs, axes, strict=True):
        needed = [LOW * (1 + min(2.0, max(0.0, (time - SETTLES) / climb.doubles_in))) for time in climb.times]
        axis.plot([time / 60 for time in climb.times], needed, color="#999999", linestyle=":", label="needed at the least")
        axis.plot([time / 60 for time in climb.times], climb.ready, color=COLOURS[0], label="ready")
        told = f"p95 {climb.p95:.2f} s, lost {climb.lost:.1%}"
        axis.set(title=f"{told_goals(climb)}\n{told}", xlabel="minutes", ylim=(0, MOST_PODS + 1))
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("replicas")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def draw_hashing(answers: Answers, path: Path) -> None:
    """Hits by replicas."""
    figure, axes = pyplot.subplots(1, len(CROWDS), figsize=(11, 4.2), layout="constrained", sharey=True)
    for crowd, axis in zip(CROWDS, axes, strict=True):
        for size, colour in zip(CACHES, COLOURS, strict=False):
            for router, style in (("by picture", "-"), ("least busy", "--")):
                line = sorted(
                    (each.replicas, each.hits)
                    for each in answers.hits
                    if (each.crowd, each.router, each.cache_bytes) == (crowd, router, size)
                )
                label = f"{router}, {size / 1e9:g} GB of cache"
                axis.plot(
                    [each[0] for each in line], [each[1] for each in line], style, color=colour, marker="o", markersize=3, label=label
                )
        axis.set(title=crowd, xlabel="replicas", xscale="log", ylim=(0, 1))
        axis.title.set_fontsize(9)
        axis.set_xticks(REPLICAS, labels=[str(count) for count in REPLICAS])
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("vision-cache hits")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def draw_check(pairs: Sequence[Pair], path: Path) -> None:
    """Measured and simulated, run by run."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    ticks = {"rate": (30, 40, 50, 60, 80, 100, 200), "p95": (0.1, 0.2, 0.5, 1, 2, 5)}
    for axis, name, label in ((axes[0], "rate", "answers/s"), (axes[1], "p95", "p95, s")):
        values = [getattr(figures, name) for each in pairs for figures in (each.real, each.simulated)]
        ends = [0.8 * min(values), 1.2 * max(values)]
        axis.fill_between(ends, [0.8 * end for end in ends], [1.2 * end for end in ends], color="#dddddd", label="within 20 %")
        for load, colour in zip(sorted({each.load for each in pairs}), COLOURS, strict=False):
            chosen = [each for each in pairs if each.load == load]
            x, y = [getattr(each.real, name) for each in chosen], [getattr(each.simulated, name) for each in chosen]
            axis.scatter(x, y, color=colour, label=f"{load:.0%} of capacity", zorder=3)
        axis.set(xlabel=f"measured {label}", ylabel=f"simulated {label}", xscale="log", yscale="log")
        for set_ticks in (axis.set_xticks, axis.set_yticks):
            set_ticks(ticks[name], labels=[f"{tick:g}" for tick in ticks[name]])
            set_ticks([], minor=True)
        axis.set(xlim=ends, ylim=ends)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: "pyplot.Figure", path: Path) -> None:
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

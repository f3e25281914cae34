"""Latency and answers against the offered load, as a picture."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.bench.benchmark import Outcome
from service.bench.figures import Load
from service.errors import OperatorError

SUFFIXES = (".png", ".svg", ".pdf")
LATENCIES = {"p99": "#b3312c", "p90": "#e07a1f", "p50": "#1b6ca8"}
GREY = "#8a8a8a"


def check(path: Path) -> None:
    """Before anything is measured: whether it can be drawn there. Errors: OperatorError."""
    if path.suffix.lower() not in SUFFIXES:
        raise OperatorError(f"--plot {path}: the name must end in {' or '.join(SUFFIXES)}.")
    if find_spec("matplotlib") is None:
        raise OperatorError("--plot needs matplotlib: pip install 'paliserve[plot]'.")


def draw(outcome: Outcome, title: str, path: Path) -> None:
    """Write the plot. Errors: OSError."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    loads = sorted((load for load in outcome.loads if load.sent), key=lambda load: load.offered)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    _latencies(left, loads)
    _answers(right, loads)
    for axis in (left, right):
        if outcome.capacity:
            axis.axvline(outcome.capacity, color=GREY, linestyle=":", linewidth=1.2, label="capacity (closed loop)")
        axis.set_xlim(0, None)
        axis.set_xlabel("requests offered per second")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8, frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _latencies(axis: Any, loads: list[Load]) -> None:
    from matplotlib import ticker  # noqa: PLC0415

    for name, colour in LATENCIES.items():
        seen = [(load.offered, getattr(load, name)) for load in loads if load.p50 is not None]
        axis.plot(*zip(*seen, strict=True), color=colour, marker="o", markersize=4, label=name) if seen else None
    if any(load.first_p50 is not None for load in loads):
        seen = [(load.offered, load.first_p50) for load in loads if load.first_p50 is not None]
        axis.plot(*zip(*seen, strict=True), color=LATENCIES["p50"], marker="^", markersize=4, linestyle="--", label="first token, p50")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_ylabel("latency, ms")


def _answers(axis: Any, loads: list[Load]) -> None:
    most = max((load.offered for load in loads), default=1.0)
    axis.plot([0, most], [0, most], color=GREY, linestyle="--", linewidth=1, label="all of them")
    offered = [load.offered for load in loads]
    axis.plot(offered, [load.goodput for load in loads], color="#2e7d32", marker="o", markersize=4, label="answered")
    for name, colour in (("refused", "#e07a1f"), ("failed", "#b3312c")):
        rates = [getattr(load, name) / load.seconds for load in loads]
        if any(rates):
            axis.plot(offered, rates, color=colour, marker="o", markersize=4, label=name)
    axis.set_ylim(0, None)
    axis.set_ylabel("per second")

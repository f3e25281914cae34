"""Plots of what was measured."""

from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot

from load_tests.rivals.contest import FIXED, LITSERVE, LOCK, OURS
from load_tests.rivals.plans import HEADLINE, Outcome

COLOURS = {OURS: "#1b6ca8", LOCK: "#999999", LITSERVE: "#e07a1f", FIXED: "#4f9d4f"}


def draw(outcome: Outcome, folder: Path, name: str) -> list[tuple[str, str]]:
    """Write the plots; returns the title and the file's name of each."""
    made = [("Requests per second and latency by concurrency", f"{name}.png")]
    _closed_plot(outcome, folder / made[0][1])
    if outcome.open:
        made.append(("Answers in time and latency by offered load", f"{name}-open.png"))
        _open_plot(outcome, folder / made[1][1])
    return made


def _closed_plot(outcome: Outcome, path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for server, colour in COLOURS.items():
        asked = sorted({run.stage.concurrent for run in outcome.runs if run.server == server and run.stage.per_image == 1})
        if not asked:
            continue
        runs = [[run.figures for run in outcome.of(server, concurrent)] for concurrent in asked]
        rates = [median(run.rate for run in each) for each in runs]
        if server == FIXED:
            left.axhline(rates[asked.index(HEADLINE)], color=colour, linestyle=":", label=f"{server} batches of 16, no HTTP")
            continue
        low = [rate - min(run.rate for run in each) for rate, each in zip(rates, runs, strict=True)]
        high = [max(run.rate for run in each) - rate for rate, each in zip(rates, runs, strict=True)]
        left.errorbar(asked, rates, yerr=[low, high], color=colour, marker="o", capsize=3, label=server)
        p50, p95 = [median(run.p50 for run in each) for each in runs], [median(run.p95 for run in each) for each in runs]
        right.plot(asked, p50, color=colour, marker="o", label=f"{server}, p50")
        right.plot(asked, p95, color=colour, marker="^", linestyle="--", label=f"{server}, p95")
    for axis, label in ((left, "requests/s"), (right, "latency, s")):
        axis.set(xscale="log", xlabel="requests at once", ylabel=label, ylim=(0, None))
        axis.set_xticks([1, 8, 32, 64], labels=["1", "8", "32", "64"])
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _open_plot(outcome: Outcome, path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    most = max(seen.offered for _, _, seen in outcome.open)
    left.plot([0, most], [0, most], color="#cccccc", linestyle=":", label="all of them")
    left.axhline(outcome.capacity, color="#cccccc", label=f"capacity of {OURS}")
    for server in dict.fromkeys(server for server, _, _ in outcome.open):
        seen = [figures for name, _, figures in outcome.open if name == server]
        offered = [each.offered for each in seen]
        left.plot(offered, [each.good for each in seen], color=COLOURS[server], marker="o", label=server)
        right.plot(offered, [each.p50 for each in seen], color=COLOURS[server], marker="o", label=f"{server}, p50")
        right.plot(offered, [each.p95 for each in seen], color=COLOURS[server], marker="^", linestyle="--", label=f"{server}, p95")
    for axis, label in ((left, "answers in time/s"), (right, "latency of answers in time, s")):
        axis.set(xlabel="requests offered/s", ylabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

"""Pictures of the contest."""

from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot

from load_tests.rivals.contest import FIXED, Measured

mpl.use("Agg")
COLOURS = {"PaliServe": "#1b7837", "LitServe": "#2166ac", "FastAPI + lock": "#b2182b", "fixed batches": "#878787"}


def draw(title: str, measured: list[Measured], path: Path) -> None:
    """Rates and latencies over the number of callers."""
    figure, (rates, latencies) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for server in {each.server: None for each in measured}:
        closed = [each for each in measured if each.server == server and each.scenario.endswith("at once")]
        points = sorted((int(each.scenario.split()[0]), each) for each in closed)
        callers = [number for number, _ in points]
        rates.plot(callers, [median(run.rate for run in each.runs) for _, each in points], "o-", color=COLOURS[server], label=server)
        if server == FIXED:
            continue
        for percent, style in ((50, "o-"), (95, "s--")):
            times = [median(run.latency(percent) for run in each.runs) for _, each in points]
            latencies.plot(callers, times, style, color=COLOURS[server], label=f"{server}, p{percent}")
    for axes, label in ((rates, "requests/s"), (latencies, "milliseconds")):
        axes.set(xlabel="callers at once", ylabel=label, xscale="log")
        axes.set_xticks([1, 8, 32, 64], ["1", "8", "32", "64"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    rates.set_ylim(bottom=0)
    latencies.set_yscale("log")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_open(title: str, measured: list[Measured], path: Path) -> None:
    """Every answer of the open loops: when it came, and how long it took; refusals in red."""
    loops = [each for each in measured if each.scenario.startswith("open") and each.server == "PaliServe"]
    figure, panels = pyplot.subplots(1, len(loops), figsize=(4 * len(loops), 3.4), layout="constrained", squeeze=False, sharey=True)
    for axes, each in zip(panels[0], loops, strict=True):
        for run in each.runs:
            for status, colour in ((200, "#1b7837"), (503, "#b2182b")):
                chosen = [(index, 1000 * answer.seconds) for index, answer in enumerate(run.answers) if answer.status == status]
                axes.plot([index for index, _ in chosen], [time for _, time in chosen], ".", color=colour, markersize=3)
        axes.set(title=each.scenario, xlabel="request", ylabel="milliseconds", yscale="log")
        axes.grid(alpha=0.3)
    figure.suptitle(f"{title} (green: answered, red: refused)")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

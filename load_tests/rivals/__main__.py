"""``python -m load_tests.rivals``: both models, about a quarter of an hour on four cores. ``--only embedded`` for half of it."""

import argparse
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from load_tests.report import RESULTS, spread, write
from load_tests.rivals import scenarios
from load_tests.rivals.checkpoint import make_medium
from load_tests.rivals.client import Run
from load_tests.rivals.contest import LITSERVE, LOCK, OURS, Contest, Measured
from load_tests.rivals.plots import draw, draw_open
from service.wiring import demo_settings

Row = tuple[str, str]


def contest(name: str, folder: Path, counts: scenarios.Counts) -> tuple[list[Row], dict[str, object]]:
    """Run one model's scenarios; rows for the table, and every figure."""
    servers = Contest(folder)
    try:
        capacity = scenarios.run(servers, counts)
    finally:
        servers.close()
    measured = list(servers.measured.values())
    draw(f"{name} model: {OURS} and its rivals", measured, RESULTS / f"rivals_{name}.png")
    draw_open(f"{name} model: open loop", measured, RESULTS / f"rivals_{name}_open.png")
    rows = [row for each in measured for row in _rows(name, each)] + _ratios(name, servers.measured)
    figures = {
        f"{each.server}, {each.scenario}": [
            {
                "requests/s": run.rate,
                "p50 ms": run.latency(50),
                "p95 ms": run.latency(95),
                "answered": _count(run, 200),
                "refused": _count(run, 503),
            }
            for run in each.runs
        ]
        for each in measured
    }
    return rows + _overload(name, servers.measured, capacity), {"capacity": capacity, **figures}


def _count(run: Run, status: int) -> int:
    return sum(answer.status == status for answer in run.answers)


def _rows(name: str, each: Measured) -> list[Row]:
    label = f"{name}, {each.scenario}, {each.server}"
    rows = [(f"{label}: requests/s", spread([run.rate for run in each.runs]))]
    if any(answer.seconds == answer.seconds for answer in each.runs[0].answers):
        rows.append((f"{label}: p95, ms", spread([run.latency(95) for run in each.runs])))
    return rows


def _ratios(name: str, measured: dict[tuple[str, str], Measured]) -> list[Row]:
    """Ours to theirs, round by round."""

    def ratio(scenario: str, server: str, figure: Callable[[Run], float]) -> str:
        pairs = zip(measured[OURS, scenario].runs, measured[server, scenario].runs, strict=True)
        return f"**{spread([figure(ours) / figure(theirs) for ours, theirs in pairs])}**"

    rows = [
        (f"**{name}, 32 at once, requests/s: ours to LitServe**", ratio("32 at once", LITSERVE, lambda run: run.rate)),
        (f"**{name}, 32 at once, p95: ours to LitServe**", ratio("32 at once", LITSERVE, lambda run: run.latency(95))),
        (f"**{name}, 1 at once, requests/s: ours to FastAPI + lock**", ratio("1 at once", LOCK, lambda run: run.rate)),
    ]
    many = f"{scenarios.QUESTIONS} questions a picture"
    if (OURS, many) in measured:
        pairs = zip(measured[OURS, many].runs, measured[OURS, "distinct pictures"].runs, strict=True)
        gains = [one.rate / other.rate for one, other in pairs]
        rows.append((f"**{name}, {many} to distinct pictures, requests/s**", f"**{spread(gains)}**"))
    return rows


def _overload(name: str, measured: dict[tuple[str, str], Measured], capacity: float) -> list[Row]:
    run = measured[OURS, "open at 120 %"].runs[0]
    refused = _count(run, 503)
    return [
        (f"**{name}, open loop at 120 %: goodput, part of the capacity**", f"**{run.rate / capacity:.2f}**"),
        (f"{name}, open loop at 120 %: refused of {len(run.answers)}", f"{refused}"),
        (f"{name}, open loop at 120 %: refusals, p95 ms", f"{run.latency(95, 503):.0f}" if refused else "–"),
    ]


def main() -> None:
    """Run what is asked for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["embedded", "medium"])
    only = parser.parse_args().only
    rows: list[Row] = []
    figures: dict[str, object] = {"rivals": {name: version(name) for name in ("litserve", "fastapi", "uvicorn")}}
    if only != "medium":
        added, figures["embedded"] = contest("embedded", Path(demo_settings().source), scenarios.EMBEDDED)
        rows += added
    if only != "embedded":
        with tempfile.TemporaryDirectory() as folder:
            parameters = make_medium(Path(folder))
            rows.append(("medium model, million parameters", f"{parameters / 1e6:.0f}"))
            added, figures["medium"] = contest("medium", Path(folder), scenarios.MEDIUM)
        rows += added
        rows.append(("decode rows of a batch of 16 that compute for nobody, lengths 4..64", f"{100 * scenarios.waste():.0f} %"))
    write("rivals" if only is None else f"rivals_{only}", "PaliServe and its rivals", "make bench-rivals", rows, figures)


if __name__ == "__main__":
    main()

"""Tables and the JSON file. A ratio is taken round by round, so that a slow minute of the machine is in both of its sides."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from load_tests.report import PACKAGES, RESULTS, publish, spread, table
from load_tests.rivals import plots
from load_tests.rivals.contest import FIXED, LITSERVE, LOCK, OURS, Run
from load_tests.rivals.figures import phases
from load_tests.rivals.plans import HEADLINE, Outcome

ALL_PACKAGES = (*PACKAGES, "fastapi", "uvicorn", "litserve")
DESCRIPTIONS = {
    "embedded": "the embedded model (2.9 M parameters, 64 image tokens), all seven tasks mixed",
    "medium": "a random model (129 M parameters, 256 image tokens), answers of 4 to 64 tokens",
}
LEGEND = (
    f"**{LOCK}**: FastAPI and `generate()` behind a lock. "
    f"**{LITSERVE}**: its batches of up to 16 within 10 ms over a left-padded `generate()`. "
    f"**{FIXED}**: `generate()` in batches of 16 in process, no HTTP. Same weights, pictures, prefixes and budgets; float32; greedy. "
    "Servers take turns, and are stopped while another one is measured. Median (least–most) of the rounds; ratios are taken round by round."
)
NONE = "–"


def write(outcomes: dict[str, Outcome], name: str, command: str) -> None:
    """``results/NAME.json``, ``NAME.md`` and the plots."""
    RESULTS.mkdir(exist_ok=True)
    parts = ["# PaliServe and its rivals", LEGEND]
    for model, outcome in outcomes.items():
        parts += [f"## {model.capitalize()}: {DESCRIPTIONS[model]}", _closed_table(outcome), _findings(outcome)]
        if outcome.open:
            parts += [f"Open loop, Poisson arrivals at a part of {outcome.capacity:.1f} requests/s:", _open_table(outcome)]
        parts += [f"![{title}]({file})" for title, file in plots.draw(outcome, RESULTS, f"{name}-{model}")]
    publish(name, "\n\n".join(parts), command, {model: _figures(outcome) for model, outcome in outcomes.items()}, ALL_PACKAGES)


def _stages(outcome: Outcome) -> list[tuple[int, int]]:
    return sorted({(run.stage.concurrent, run.stage.per_image) for run in outcome.runs})


def _closed_table(outcome: Outcome) -> str:
    rows = []
    for concurrent, per_image in _stages(outcome):
        ours = outcome.of(OURS, concurrent, per_image)
        for server in (OURS, LOCK, LITSERVE, FIXED):
            runs = outcome.of(server, concurrent, per_image)
            if not runs:
                continue
            ratio = (NONE, NONE)
            if server != OURS:
                ratio = (_ratios(ours, runs, lambda run: run.figures.rate), _ratios(ours, runs, lambda run: run.figures.p95))
            asked = f"{concurrent}" + (f", {per_image} questions per image" if per_image > 1 else "")
            rows.append((asked, server, *_cells(runs), *ratio))
    head = ("at once", "server", "requests/s", "p50, s", "p95, s", "CPU s per request", "ours ÷ its requests/s", "ours ÷ its p95")
    return table(head, rows)


def _cells(runs: Sequence[Run]) -> tuple[str, ...]:
    failed = sum(run.figures.failed for run in runs)
    rate = spread([run.figures.rate for run in runs]) + (f", {failed} failed" if failed else "")
    cpu = f"{median(run.disturbance.cpu for run in runs):.3f}"
    if runs[0].server == FIXED:
        return rate, NONE, NONE, cpu
    return rate, f"{median(run.figures.p50 for run in runs):.2f}", f"{median(run.figures.p95 for run in runs):.2f}", cpu


def _ratios(ours: Sequence[Run], theirs: Sequence[Run], figure: Callable[[Run], float]) -> str:
    if theirs[0].server == FIXED and figure(theirs[0]) != theirs[0].figures.rate:
        return NONE
    by_turn = {run.turn: run for run in ours}
    ratios = [figure(by_turn[run.turn]) / figure(run) for run in theirs if run.turn in by_turn]
    return f"**{spread(ratios)}**" if ratios else NONE


def _findings(outcome: Outcome) -> str:
    lines = [f"- Same text as {server}: {same} of {compared}." for server, (same, compared) in outcome.texts.items()]
    distinct = {run.turn: run.figures.rate for run in outcome.of(OURS, HEADLINE)}
    eight = {run.turn: run.figures.rate for run in outcome.of(OURS, HEADLINE, 8)}
    if distinct and eight:
        ratio = spread([eight[turn] / distinct[turn] for turn in eight])
        lines.append(f"- Eight questions per image ÷ distinct images, {OURS}: **{ratio}**.")
    if outcome.waste is not None:
        waste = outcome.waste
        lines.append(
            f"- Of {LITSERVE}'s decode rows {waste.decode_rows:.0%} write nothing any more and wait for the longest answer of their batch "
            f"({waste.batch_rows:.1f} rows on average); {waste.prompt_padding:.1%} of its prompt positions are padding. That is "
            f"{waste.decode_time:.0%} of its time in `generate()`: the same steps without it would be {waste.best_ratio:.2f} times as fast."
        )
    idle = ", ".join(f"{server} {100 * share:.1f} %" for server, share in outcome.idle_cpu.items())
    others = [run.disturbance.others for run in outcome.runs]
    stolen = [run.disturbance.stolen for run in outcome.runs]
    disturbed = f"Strangers kept {spread(others)} cores busy meanwhile, and the machine's host took {spread(stolen)}"
    lines.append(f"- Idle, before it is stopped, takes of one core: {idle}.")
    lines.append(f"- {disturbed}; {outcome.repeated} runs were repeated because a core had stood still or strangers had been too busy.")
    return "\n".join(lines)


def _open_table(outcome: Outcome) -> str:
    head = (
        "server | load | offered/s | in time/s | of capacity | p50, s | p95, s | refused/s | refused within, p50 / p95, ms | late/s".split(
            " | "
        )
    )
    rows = []
    for server, load, seen in outcome.open:
        refused = NONE if math.isnan(seen.refused_p50) else f"{1000 * seen.refused_p50:.0f} / {1000 * seen.refused_p95:.0f}"
        late = f"{seen.late:.1f}" + (f", {seen.broken} broken" if seen.broken else "")
        rows.append(
            (
                server, f"{load:.0%}", f"{seen.offered:.1f}", f"{seen.good:.1f}", f"**{seen.good / outcome.capacity:.0%}**",
                f"{seen.p50:.2f}", f"{seen.p95:.2f}", f"{seen.refused:.1f}", refused, late,
            )
        )  # fmt: skip
    return table(head, rows)


def _figures(outcome: Outcome) -> dict[str, Any]:
    return {
        "closed": [
            {"server": run.server, "concurrent": run.stage.concurrent, "per_image": run.stage.per_image, "round": run.turn}
            | asdict(run.figures) | asdict(run.disturbance)
            for run in outcome.runs
        ],
        "open": [{"server": server, "load": load, **_plain(asdict(seen))} for server, load, seen in outcome.open],
        "capacity": outcome.capacity,
        "our_phases_ms": {
            str(concurrent): phases(reply for run in outcome.of(OURS, concurrent) for reply in run.replies)
            for concurrent, per_image in _stages(outcome)
            if per_image == 1
        },
        "same_texts": outcome.texts,
        "differing": outcome.differing,
        "waste": None if outcome.waste is None else asdict(outcome.waste),
        "idle_cpu": outcome.idle_cpu,
        "repeated": outcome.repeated,
    }  # fmt: skip


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}

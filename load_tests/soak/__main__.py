"""``python -m load_tests.soak [--seconds 600] [--load 0.8]``: writes ``results/soak.json`` and ``.md``; status 1 where something grows."""

import argparse
import asyncio
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from load_tests.capacity.calibration import LARGER, SMALLER
from load_tests.capacity.watching import watched
from load_tests.report import publish, table
from load_tests.rivals.contest import Disturbance
from load_tests.rivals.servers import free_port
from load_tests.soak.soaking import Soak, Soaking, server
from load_tests.soak.verdict import Finding, findings, grown
from load_tests.soak.visitors import Outcome, shares
from service.planning import demo_settings

SECONDS, LOAD = 600.0, 0.8


def main() -> int:
    """Soak a server in processes of its own."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.soak")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--load", type=float, default=LOAD, help="part of the capacity")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sources = {each.name: each.source for each in demo_settings() if each.name in {SMALLER, LARGER}}
    port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        running = server(Path(folder), port, grpc_port, sources)
        try:
            running.wait_until_ready()
            soaking = Soaking(running, grpc_port, asked.load, asked.seconds)
            soak, disturbance = watched(running, lambda: asyncio.run(soaking.run()))
        finally:
            running.stop()
    found = findings(soak)
    command = f"python -m load_tests.soak --seconds {asked.seconds:g} --load {asked.load:g}"
    publish(
        "soak" if asked.seconds >= SECONDS else "soak-short", _text(soak, found, disturbance), command, _figures(soak, found, disturbance)
    )
    for each in soak.unexplained[:20]:
        print(f"unexplained: {each}", file=sys.stderr)
    return 0 if all(each.holds for each in found) else 1


def _text(soak: Soak, found: list[Finding], disturbance: Disturbance) -> str:
    kinds = sorted({kind for kind, _ in soak.ended})
    outcomes = [each.value for each in Outcome]
    visits = table(
        ("visitors", *outcomes), [(kind.replace("_", " "), *(str(soak.ended[kind, each]) for each in outcomes)) for kind in kinds]
    )
    verdicts = [(each.what, each.found, each.wanted, "yes" if each.holds else "NO") for each in found]
    roles = sorted(soak.looks[-1].held)
    memory = [(role, *(f"{size / 1e6:.1f}" for size in grown(soak, lambda look, role=role: look.held[role].pss))) for role in roles]  # type: ignore[misc]
    return "\n\n".join([
        "# Soak: everything at once",
        f"{soak.seconds:g} s, open loop, Poisson arrivals at {soak.load:.0%} of the capacity for this mix, which is {soak.capacity:.1f} "
        f"visits/s in a closed loop. Two instances, {SMALLER} and {LARGER} in a ratio of 4 to 1; vision caches of 20 MB, always full. "
        f"Visitors: {', '.join(shares(soak.kinds))}. Visits of the closed loop are counted as well.",
        f"The latest visitor came {soak.late:.2f} s late; strangers kept {disturbance.others:.2f} cores busy, and a core stood still for "
        f"{disturbance.standstill:.2f} s at most.",
        table(("what", "found", "wanted", "holds"), verdicts),
        visits,
        table(("PSS of", "MB, settled", "MB, at the end"), memory),
    ])  # fmt: skip


def _figures(soak: Soak, found: list[Finding], disturbance: Disturbance) -> dict[str, object]:
    looks = [
        {"moment": round(each.moment, 1), "tasks": each.tasks, **{role: asdict(held) for role, held in each.held.items()}}
        for each in soak.looks
    ]
    ended = {f"{kind} {outcome}": count for (kind, outcome), count in sorted(soak.ended.items())}
    return {
        "findings": [asdict(each) for each in found], "capacity": soak.capacity, "ended": ended, "unexplained": soak.unexplained[:100],
        "disturbance": asdict(disturbance), "looks": looks,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

"""``paliserve bench`` against the embedded models, whole answers and streams: ``python -m load_tests.bench``.

The server has what this client leaves of the machine, as on a laptop where somebody tries both.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from load_tests.report import RESULTS, publish, table
from load_tests.rivals.servers import Server, free_port
from service.bench.benchmark import Benchmark, Outcome
from service.bench.pictures import sample_pictures
from service.bench.plan import Plan
from service.bench.plot import draw
from service.bench.questions import questions
from service.bench.report import document, remarks, rows
from service.bench.target import over_rest

TIMEOUT = 30.0
WAYS: dict[str, dict[str, Any]] = {"whole answers": {}, "streams": {"stream": "true"}}


def measure(url: str, options: dict[str, Any], plan: Plan) -> Outcome:
    """Seven tasks in turn about the embedded picture, a new file each time."""
    asked = questions((), None, options | {"timeout_ms": round(1000 * TIMEOUT)}, sample_pictures())
    return asyncio.run(Benchmark(over_rest(url, None, None), asked, plan, lambda seconds, doing: None).run())


def main() -> None:
    """Measure, and write ``results/bench.*``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="at each rate")
    plan = Plan((), parser.parse_args().seconds, TIMEOUT, 32, 0, cached=False)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = Server("service.main", ["serve", "--port", str(port), "--grpc-port", "0"], port, "/readyz", Path(folder) / "log")
        try:
            server.wait_until_ready()
            found = {way: measure(f"http://127.0.0.1:{port}", options, plan) for way, options in WAYS.items()}
        finally:
            server.stop()
    parts = []
    for way, outcome in found.items():
        head, *body = rows(outcome, streamed=bool(WAYS[way]))
        parts.append(
            f"## {way.capitalize()}\n\n{table([each.lower() for each in head], body)}\n\n" + "\n".join(remarks(outcome, plan.seconds))
        )
        draw(outcome, f"Embedded model, seven tasks in turn, {way}", RESULTS / f"bench-{way.split()[-1]}.png")
    text = "\n\n".join(["# Latency and answers against load", "Seven tasks in turn, the picture of each a new file.", *parts])
    publish("bench", text, "python -m load_tests.bench", {way: document(each, {}, "") for way, each in found.items()})


if __name__ == "__main__":
    main()

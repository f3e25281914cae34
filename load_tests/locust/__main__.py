"""Every scenario for a bounded time against one server, thresholds and all: ``python -m load_tests.locust`` starts that server itself."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from load_tests.report import publish, table
from load_tests.rivals.servers import ROOT, Server, free_port

FOLDER = Path(__file__).parent
USERS = 8
GRACE = 120
"""Seconds that a scenario may take beside its own: locust starts, and lets its last requests end."""

SCENARIOS = {
    "RestMixedTasks": "rest_users.py", "GrpcMixedTasks": "grpc_users.py", "RestOneImage": "rest_users.py", "GrpcOneImage": "grpc_users.py",
    "RestHighResolution": "rest_users.py", "GrpcHighResolution": "grpc_users.py", "RestStreaming": "rest_users.py",
    "GrpcStreaming": "grpc_users.py", "RestBursts": "bursts.py",
}  # fmt: skip
"""By the name of its users, and the file that they stand in."""

HEAD = ("scenario", "entry", "requests", "failed or refused", "p50 ms", "p95 ms", "most ms")


@dataclass(frozen=True, slots=True)
class Ran:
    """One scenario: locust's figures of each entry, what went wrong, and whether the thresholds held. ``said``: which did not."""

    scenario: str
    entries: Sequence[Mapping[str, Any]]
    passed: bool
    said: str

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Of a table."""
        for each in sorted(self.entries, key=lambda entry: str(entry["name"])):
            spread = [_percentile(each["response_times"], share) for share in (0.5, 0.95, 1.0)]
            counts = (f"{each['num_requests']}", f"{each['num_failures']}")
            yield (self.scenario, each["name"], *counts, *(f"{value:.0f}" for value in spread))


def run(scenario: str, hosts: tuple[str, str], seconds: float) -> Ran:
    """One, in a process of its own: locust changes Python's own modules. ``hosts``: over REST, and over gRPC."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "figures"
        command = [
            sys.executable, "-m", "locust", "-f", str(FOLDER / SCENARIOS[scenario]), scenario, "--headless", "--only-summary",
            "--host", hosts[scenario.startswith("Grpc")], "-u", str(USERS), "-r", str(USERS), "-t", f"{seconds:g}s", "-s", "30",
            "-L", "WARNING", "--json-file", str(written),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + GRACE)
        files = list(Path(folder).glob("figures*"))
        entries = json.loads(files[0].read_text()) if files else []
    return Ran(scenario, entries, done.returncode == 0, done.stderr)


@contextmanager
def server(url: str | None, grpc: str | None) -> Iterator[tuple[str, str]]:
    """The one that is named, or one with the embedded models."""
    if url and grpc:
        yield url, grpc
        return
    port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        ports = ["--port", str(port), "--grpc-port", str(grpc_port)]
        started = Server("service.main", ["serve", *ports], port, "/readyz", Path(folder) / "log")
        try:
            started.wait_until_ready()
            yield f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
        finally:
            started.stop()


def _percentile(times: Mapping[str, int], share: float) -> float:
    """Of counts by milliseconds."""
    wanted, seen = share * sum(times.values()), 0
    for milliseconds, count in sorted((float(each), count) for each, count in times.items()):
        seen += count
        if seen >= wanted:
            return milliseconds
    return 0.0


def main() -> int:
    """Returns 1 where a threshold did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each scenario")
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--url", help="with --grpc: a server that is running")
    parser.add_argument("--grpc", help="its HOST:PORT")
    parser.add_argument("--publish", action="store_true", help="write load_tests/results/locust.md and .json")
    asked = parser.parse_args()
    if bool(asked.url) != bool(asked.grpc):
        parser.error("--url and --grpc go together: every scenario runs over both.")
    results = []
    with server(asked.url, asked.grpc) as hosts:
        for scenario in asked.scenario:
            results.append(run(scenario, hosts, asked.seconds))
            print(f"{scenario}: {'passed' if results[-1].passed else 'FAILED'}", file=sys.stderr)
    made = table(HEAD, [row for each in results for row in each.rows()])
    if asked.publish:
        text = f"# Users of locust\n\n{USERS} users, in bursts many more, {asked.seconds:g} s each, against the embedded models.\n\n{made}"
        publish("locust", text, "python -m load_tests.locust --publish", {"scenarios": [asdict(each) for each in results]})
    else:
        print(made)
    for each in results:
        if not each.passed:
            print(f"{each.scenario}:\n{each.said}", file=sys.stderr)
    return 0 if all(each.passed for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Each scenario of locust for three seconds against the real server, as ``make load-test`` runs it for longer."""

import subprocess
import sys

import pytest

from tests.end_to_end.conftest import Server
from tests.end_to_end.test_bench import hits

TASKS = {"caption", "answer", "detect", "segment", "read", "caption-region", "generate"}
ENTRIES = {
    "RestMixedTasks": TASKS,
    "GrpcMixedTasks": TASKS,
    "RestOneImage": {"first question", "next question"},
    "GrpcOneImage": {"first question", "next question"},
    "RestHighResolution": {"detect at 448", "detect at 896"},
    "GrpcHighResolution": {"detect at 448", "detect at 896"},
    "RestStreaming": {"caption, streamed", "detect, streamed", "first token"},
    "GrpcStreaming": {"caption, streamed", "detect, streamed", "first token"},
    "RestBursts": TASKS,
}


def load_test(server: Server, scenario: str, *more: str) -> subprocess.CompletedProcess[str]:
    addresses = ("--url", server.url, "--grpc", f"127.0.0.1:{server.grpc_port}")
    command = [sys.executable, "-m", "load_tests.locust", "--seconds", "3", "--scenario", scenario, *addresses, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("scenario", ENTRIES)
def test_a_scenario_asks_what_it_says(server: Server, scenario: str) -> None:
    before, known = server.series("paliserve_generations_accepted_total"), hits(server)
    done = load_test(server, scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    answered = {row[1]: int(row[2]) - int(row[3]) for row in rows}
    assert {row[0] for row in rows} == {scenario}
    assert answered.keys() == ENTRIES[scenario]
    answered.pop("first token", None)
    assert server.series("paliserve_generations_accepted_total") - before >= sum(answered.values()) > 0
    if "OneImage" in scenario:
        assert hits(server) - known >= answered["next question"]


def test_a_server_that_is_away_fails_the_thresholds() -> None:
    command = [sys.executable, "-m", "load_tests.locust", "--seconds", "1", "--scenario", "RestOneImage", "GrpcOneImage"]
    nowhere = ("--url", "http://127.0.0.1:1", "--grpc", "127.0.0.1:1")
    done = subprocess.run([*command, *nowhere], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert done.stderr.count("failed, and at most 0.0% may") == 2

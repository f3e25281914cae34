"""What hinders the start is told in words; the rest of the start is tested on the real process."""

import sys

import pytest

from service import serving
from service.observability.metrics import Metrics
from service.settings import Settings


def test_tracing_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(serving.ServingError, match=r"pip install 'paliserve\[tracing\]'"):
        serving._tracing(Settings(tracing=True))


def test_fewer_files_than_connections_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(serving, "open_files", lambda wanted: 1000)
    connections = serving._connections(Settings(max_connections=2000, max_connections_per_address=0), Metrics("0"))
    assert "1000 files: 488 connections are served at once, not 2000" in caplog.text
    assert [connections.enter("10.0.0.1") for _ in range(489)] == [True] * 488 + [False]


def test_connections_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "open_files", lambda wanted: 5)
    connections = serving._connections(Settings(max_connections=0, max_connections_per_address=0), Metrics("0"))
    assert all(connections.enter("10.0.0.1") for _ in range(3000))


@pytest.mark.parametrize(
    ("settings", "memory", "most"),
    [
        (Settings(), 80 * 10**9, 10 * 10**9),
        (Settings(max_held_bytes=5), 80 * 10**9, 5),
        # Room for four of the largest there is, whatever the machine.
        (Settings(), 10**9, 4 * 54_333_333),
        (Settings(max_image_bytes=1000, grpc_max_message_bytes=10**9), 10**9, 4 * 10**9),
    ],
)
def test_the_budget_follows_the_memory(monkeypatch: pytest.MonkeyPatch, settings: Settings, memory: int, most: int) -> None:
    monkeypatch.setattr(serving, "memory_bytes", lambda: memory)
    metrics = Metrics("0")
    budget = serving._budget(settings, metrics)
    assert budget.most == most
    with budget.hold() as hold:
        hold.take(3)
        assert "paliserve_held_bytes 3.0" in metrics.exposition()[0].decode()
    limits = [line for line in metrics.exposition()[0].decode().splitlines() if line.startswith("paliserve_held_bytes_limit ")]
    assert [float(line.split()[1]) for line in limits] == [most]

"""What clients may take, worked out of the settings and the machine."""

import pytest

from service import bounds
from service.observability.metrics import Metrics
from service.settings import Settings


def test_fewer_files_than_connections_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(bounds, "open_files", lambda wanted: 1000)
    found = bounds.connections(Settings(max_connections=2000, max_connections_per_address=0), Metrics("0"))
    assert "1000 files: 488 connections are served at once, not 2000" in caplog.text
    assert [found.enter("10.0.0.1") for _ in range(489)] == [True] * 488 + [False]


def test_connections_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "open_files", lambda wanted: 5)
    found = bounds.connections(Settings(max_connections=0, max_connections_per_address=0), Metrics("0"))
    assert all(found.enter("10.0.0.1") for _ in range(3000))


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
    monkeypatch.setattr(bounds, "memory_bytes", lambda: memory)
    metrics = Metrics("0")
    found = bounds.budget(settings, metrics)
    assert found.most == most
    with found.hold() as hold:
        hold.take(3)
        assert "paliserve_held_bytes 3.0" in metrics.exposition()[0].decode()
    limits = [line for line in metrics.exposition()[0].decode().splitlines() if line.startswith("paliserve_held_bytes_limit ")]
    assert [float(line.split()[1]) for line in limits] == [most]

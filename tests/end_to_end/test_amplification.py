"""Envoy's rule, measured on a real server: what each hostile request costs. ``make amplification`` prints the whole table."""

from collections.abc import Iterator

import pytest

from tests.amplification import MOST, Cost, measured, settings, table
from tests.end_to_end.conftest import Server


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[float, list[Cost]]]:
    """Processor seconds of an honest request, and the costs of hostile ones."""
    running = Server("--config", settings(tmp_path_factory.mktemp("amplification")))
    try:
        yield measured(running)
        assert running.client.get("/readyz").status_code == 200
        assert not [line for line in running.log if "unforeseen" in line or "Traceback" in line]
    finally:
        running.close()


@pytest.mark.timeout(600)
def test_no_request_takes_more_memory_than_configured(costs: tuple[float, list[Cost]], capsys: pytest.CaptureFixture[str]) -> None:
    honest, found = costs
    lines = table(honest, found).splitlines()
    with capsys.disabled():
        print("\n" + "\n".join([*lines[:3], lines[-1]]))
    assert not [each for each in found if each.memory_ratio > 1]


@pytest.mark.timeout(600)
def test_no_request_takes_the_time_of_a_hundred_honest_ones(costs: tuple[float, list[Cost]]) -> None:
    honest, found = costs
    assert len(found) > 50
    assert not [each for each in found if each.time_ratio(honest) > MOST]

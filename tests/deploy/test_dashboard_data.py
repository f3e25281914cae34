"""A real Prometheus with our configuration, scraping a stand-in that exports what the service does: every expression finds something."""

import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import start_http_server

from tests.deploy.declared_metrics import VALUES, StandIn
from tests.deploy.prometheus_tools import DASHBOARD, FOLDER, RECORDED, label_queries, needed, panel_expressions, with_variables

PATIENCE = 60.0


@dataclass
class Prometheus:
    """A client of its interface, and what it scrapes."""

    client: httpx.Client
    stand_in: StandIn

    def values(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """By the labels of each series; those that are no number, as where nothing has come yet, are not found."""
        told = self.client.get("/api/v1/query", params={"query": expression}).raise_for_status().json()["data"]
        assert told["resultType"] == "vector", expression
        found = {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in told["result"]}
        return {labels: value for labels, value in found.items() if not math.isnan(value)}

    def until(self, satisfied: Callable[[], bool]) -> None:
        """Let requests come until Prometheus has seen enough of them."""
        end = time.monotonic() + PATIENCE
        while not satisfied():
            assert time.monotonic() < end
            self.stand_in.step()
            time.sleep(0.25)


def configuration(folder: Path, port: int) -> Path:
    """Ours, quicker and for another target."""
    told: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    told["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    told["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    shutil.copy(FOLDER / "rules.yaml", folder)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
    return folder / "prometheus.yaml"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program, folder = needed("prometheus"), tmp_path_factory.mktemp("prometheus")
    stand_in = StandIn()
    server, thread = start_http_server(0, "127.0.0.1", stand_in.registry)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = configuration(folder, server.server_port)
    flags = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "log").open("w") as log, subprocess.Popen([program, *flags], stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://{address}", transport=httpx.HTTPTransport(retries=8)) as client:
                found = Prometheus(client, stand_in)
                found.until(lambda: client.get("/-/ready").is_success)
                yield found
        finally:
            process.terminate()
            server.shutdown()
            server.server_close()
            thread.join()


def test_every_panel_rule_and_annotation_finds_something(prometheus: Prometheus) -> None:
    asked = panel_expressions(rate_interval="10s") | {name: name for name in RECORDED}
    asked |= {each["name"]: with_variables(each["expr"]) for each in DASHBOARD["annotations"]["list"] if "expr" in each}

    def all_found() -> bool:
        for name in [name for name, expression in asked.items() if prometheus.values(expression)]:
            del asked[name]
        return not asked

    try:
        prometheus.until(all_found)
    finally:
        assert not asked


def test_every_variable_offers_what_is_there(prometheus: Prometheus) -> None:
    queries = label_queries()
    assert set(queries) == {"namespace", "job", "model"}

    def offered(name: str) -> list[str]:
        selector, label = queries[name]
        answer = prometheus.client.get(f"/api/v1/label/{label}/values", params={"match[]": selector}).raise_for_status()
        return list(answer.json()["data"])

    prometheus.until(lambda: bool(offered("model")))
    assert (offered("namespace"), offered("job"), offered("model")) == ([], ["paliserve"], VALUES["model"])


def test_ratios_and_percentiles_are_those_of_the_stand_in(prometheus: Prometheus) -> None:
    expressions = panel_expressions(rate_interval="10s")
    prometheus.until(lambda: bool(prometheus.values(expressions["Hit ratio A"])))
    # Each look-up hits and misses as often; of four codes one is the caller's own fault, and one of the others is no fault.
    assert prometheus.values(expressions["Hit ratio A"]) == {(("model", model),): 0.5 for model in VALUES["model"]}
    assert list(prometheus.values(expressions["Share of errors A"]).values()) == [pytest.approx(2 / 3)]
    assert prometheus.values(expressions["Processes A"]) == {(("version", "1"),): 1}
    (waiting,), (slots,) = (prometheus.values(expressions[name]).values() for name in ("Waiting A", "Slots in use A"))
    assert (waiting, slots) == (3, 1)
    # Every duration is 20 ms, between the bounds of 10 and 25.
    assert all(0.01 <= each <= 0.025 for each in prometheus.values(expressions["Latency p99 A"]).values())

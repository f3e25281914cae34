"""Dashboard, rules, alerts and runbook: each by the tool that reads it, and all of them against one another."""

import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.instance_settings import InstanceSettings
from service.observability.metrics import STAGES, Metrics
from service.observability.scraped import AdapterReading, DeviceReading, Scraped
from service.settings import Settings
from service.transports.rest.problems import TABLE
from tests.deploy.declared_metrics import DECLARED, VALUES, StandIn, names_in
from tests.deploy.prometheus_tools import (
    ALERTS,
    DASHBOARD,
    FOLDER,
    PANELS,
    RECORDED,
    RULES,
    VARIABLES,
    label_queries,
    panel_expressions,
    promtool,
    with_variables,
)

EXPORTED = names_in(StandIn().exposition())


def test_the_stand_in_exports_what_the_service_does() -> None:
    metrics = Metrics("1", **dict.fromkeys(("python", "torch", "transformers"), "1"))
    metrics.watch(Scraped(lambda: [DeviceReading("cpu", 0.0, 1, 2, (1,))], lambda: AdapterReading(0, (), 0.0)))
    metrics.device_added("cpu")
    metrics.instance_holds("one", 1, 1)
    metrics.queue_changed("one", 0, 0, 0)
    metrics.instance_entered("one", "warm")
    metrics.batch_ran("one", "decode", 1)
    metrics.vision_cache_changed("one", 0)
    metrics.request_ended("read", "ok", "rest", 0.1, "one")
    metrics.stages_took("one", dict.fromkeys(STAGES, 0.1))
    metrics.tokens_took("one", 0.1, 0.1, 2)
    metrics.tokens_used("one", 1, 1, 1)
    exposition = metrics.exposition()[0].decode()
    assert names_in(exposition) == EXPORTED
    labels = {
        each.name: " ".join(sorted(set(each.labels) - {"le"}))
        for family in text_string_to_metric_families(exposition)
        for each in family.samples
        if each.name.startswith("paliserve_")
    }
    for name, (kind, declared) in DECLARED.items():
        series = f"{name}_bucket" if kind == "histogram" else name
        assert labels[series] == " ".join(sorted(declared.split())), name


EXPRESSIONS = {
    **{rule.get("alert") or rule["record"]: str(rule["expr"]) for rule in RULES},
    **panel_expressions(),
    **{f"variable {name}": selector for name, (selector, _) in label_queries().items()},
    **{f"annotation {each['name']}": with_variables(each["expr"]) for each in DASHBOARD["annotations"]["list"] if "expr" in each},
}
TARGET_LABELS = {"namespace", "job", "instance", "pod"}
METRIC_LABELS = {label for _, labels in DECLARED.values() for label in labels.split()}
WORDS = {"and", "or", "unless", "bool", "offset"}
LISTS = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"
RUNBOOK = (FOLDER / "RUNBOOK.md").read_text()
SECTIONS = dict(re.findall(r"^## (PaliServe\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.DOTALL | re.MULTILINE))


def selectors(expression: str) -> list[tuple[str, list[str]]]:
    """Names of series in an expression, with the labels that each is selected by."""
    bare = re.sub(LISTS, " ", re.sub(r"\[[^\]]*\]", " ", re.sub(r'"[^"]*"', '""', expression)))
    return [
        (name, re.findall(r"\w+", matchers))
        for name, call, matchers in re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(\s*\()?(\{[^}]*\})?", bare)
        if not call and name not in WORDS
    ]


def labels_of(name: str) -> set[str]:
    """The labels that a series may have beside those of its target."""
    if name in RECORDED:
        return set(name.partition(":")[0].split("_"))
    for end, more in (("_bucket", {"le"}), ("_sum", set()), ("_count", set()), ("", set())):
        if name.endswith(end) and name.removesuffix(end) in DECLARED:
            return set(DECLARED[name.removesuffix(end)][1].split()) | more
    return {"alertname", "alertstate", "severity"} if name == "ALERTS" else set()


def test_prometheus_accepts_configuration_and_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "rules.yaml")
    assert "SUCCESS" in promtool("check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yaml")


def test_rules_do_what_their_tests_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", FOLDER / "rules_test.yaml")


def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    asked = [expression for name, expression in EXPRESSIONS.items() if name not in ALERTS and name not in RECORDED]
    assert len(asked) > len(PANELS)
    rules = [{"record": f"job:panel:number{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", tmp_path / "panels.yaml")


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_only_what_is_exported_is_asked_for(expression: str) -> None:
    asked = selectors(expression)
    assert asked or expression == "vector(0.005)"
    for name, labels in asked:
        assert name in EXPORTED | RECORDED.keys() | {"up", "ALERTS"}, name
        assert set(labels) <= labels_of(name) | TARGET_LABELS, name
    grouped = {label for listed in re.findall(LISTS, expression) for label in re.findall(r"\w+", listed)}
    assert grouped <= {label for name, _ in asked for label in labels_of(name)} | TARGET_LABELS


def test_every_metric_is_looked_at_somewhere() -> None:
    asked = {name for expression in EXPRESSIONS.values() for name, _ in selectors(expression)}
    unseen = {name for name in DECLARED if not asked & {name, f"{name}_bucket"}}
    assert not unseen


def test_recorded_names_are_level_metric_operations() -> None:
    for name, rule in RECORDED.items():
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", name)
        level = set(name.partition(":")[0].split("_"))
        assert level <= TARGET_LABELS | METRIC_LABELS | {"le"}, name
        for listed in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
            assert set(listed.split(", ")) <= level, name


def test_every_panel_is_of_its_own_and_names_the_variable_as_its_source() -> None:
    identities = Counter(panel["id"] for panel in DASHBOARD["panels"])
    titles = Counter(panel["title"] for panel in DASHBOARD["panels"])
    assert max(identities.values()) == max(titles.values()) == 1
    for panel in PANELS:
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert {"datasource", "namespace", "job", "model"} == set(VARIABLES)


def test_panels_lie_on_the_grid_and_not_upon_one_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24
        for cell in product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]


def test_what_counts_as_the_services_error_is_what_it_answers_with_5xx() -> None:
    faults = {code.code for code in TABLE.values() if code.status >= 500}
    lists = {listed for expression in EXPRESSIONS.values() for listed in re.findall(r'code=~"([^"]*)"', expression)}
    assert {frozenset(listed.split("|")) for listed in lists} == {frozenset(faults), frozenset(faults | {"ok"})}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"deploy/observability/RUNBOOK.md#{name.lower()}"


def test_the_runbook_has_a_section_for_every_alert_and_for_nothing_else() -> None:
    assert list(SECTIONS) == list(ALERTS)
    for text in SECTIONS.values():
        assert "**Means.**" in text
        assert "**Do.**" in text or "**Look at, do.**" in text or "| do |" in text
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {name.lower() for name in ALERTS}


def test_the_runbook_names_metrics_log_lines_and_settings_that_exist() -> None:
    assert set(re.findall(r"\bpaliserve_\w+", RUNBOOK)) <= EXPORTED | DECLARED.keys()
    code = "".join(path.read_text() for path in (FOLDER.parents[1] / "service").rglob("*.py"))
    for line in ("unforeseen", "a step of %d requests failed", "worker %d ended with exit code %s", "a thread of the worker failed"):
        assert line in code
        assert re.search(re.sub(r"%\w", r"[A-Z]+", line), RUNBOOK), line
    assert "%s cannot be loaded" in code
    assert "%s is loaded" in code
    known = {
        *Settings.model_fields,
        *InstanceSettings.model_fields,
        *EXPORTED,
        *DECLARED,
        *VALUES["reason"],
        *(code.code for code in TABLE.values()),
    }
    assert set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", RUNBOOK)) - known == {"timeout_ms", "container_cpu_cfs_throttled_periods_total"}


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    tests: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test.get("alert_rule_test", [])]
    assert set(cases) == set(product(ALERTS, (True, False)))


def test_grafana_is_told_where_compose_puts_things() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    configured = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    assert source["jsonData"]["timeInterval"] == configured["global"]["scrape_interval"]
    assert [(job["job_name"], job["static_configs"]) for job in configured["scrape_configs"]] == [
        ("paliserve", [{"targets": ["paliserve:8000"]}])
    ]
    (provider,) = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/paliserve.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"

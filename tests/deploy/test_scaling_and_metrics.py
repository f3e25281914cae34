"""Autoscalers, the endpoint picker and the operator's rules: what they ask for is what the server tells."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.deploy.declared_metrics import DECLARED
from tests.deploy.prometheus_rule import RULES, WRITTEN, prometheus_rule
from tests.deploy.rendering import DEPLOY, WAYS, Manifest, of_kind, render, server

HPA, KEDA, POOL = "gpu-224 with hpa", "gpu-224 with keda", "gpu-224 with inference-pool"
ADAPTER = DEPLOY / "components" / "hpa" / "prometheus-adapter.yaml"


def autoscaler() -> Manifest:
    spec: Manifest = of_kind(HPA, "HorizontalPodAutoscaler")[0]["spec"]
    return spec


def scaled_object() -> Manifest:
    spec: Manifest = of_kind(KEDA, "ScaledObject")[0]["spec"]
    return spec


def quantity(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


TOKENS = "paliserve_image_tokens_per_second"
"""What prometheus-adapter makes of the counter that KEDA asks for."""


def goals_of_keda() -> dict[str, str]:
    """The query and what it is of, by the name that the other autoscaler has for it."""
    queries = [each["metadata"]["query"] for each in scaled_object()["triggers"]]
    return {TOKENS if "rate(" in each else re.findall(r"paliserve_\w+", each)[0]: each for each in queries}


def test_what_is_asked_for_is_told() -> None:
    asked = {each["pods"]["metric"]["name"] for each in autoscaler()["metrics"]} - {TOKENS}
    asked |= {name for query in goals_of_keda().values() for name in re.findall(r"paliserve_\w+", query)} - {"paliserve_image_tokens_total"}
    asked |= {value for key, value in engine().items() if key.endswith("Spec")}
    assert asked <= DECLARED.keys()
    # One number for each process: autoscalers and pickers add nothing up.
    assert all(DECLARED[name] == ("gauge", "") for name in asked - {"paliserve_lora_requests_info"})
    assert DECLARED["paliserve_image_tokens_total"][0] == "counter"


def test_prometheus_adapter_offers_what_the_autoscaler_asks_for() -> None:
    gauges, tokens = yaml.safe_load(ADAPTER.read_text())
    pattern = re.search(r'__name__=~"([^"]+)"', gauges["seriesQuery"])
    assert pattern
    for each in autoscaler()["metrics"]:
        name = each["pods"]["metric"]["name"]
        assert re.fullmatch(pattern[1], name) or name == tokens["name"]["as"] == TOKENS
    for rule in (gauges, tokens):
        assert rule["resources"]["overrides"] == {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}
        assert all(f'{label}!=""' in rule["seriesQuery"] for label in ("namespace", "pod"))
    assert tokens["seriesQuery"].startswith("paliserve_image_tokens_total{")
    assert "sum(rate(" in tokens["metricsQuery"]


def test_both_autoscalers_do_the_same() -> None:
    by_hpa = {each["pods"]["metric"]["name"]: quantity(each["pods"]["target"]["averageValue"]) for each in autoscaler()["metrics"]}
    thresholds = [float(each["metadata"]["threshold"]) for each in scaled_object()["triggers"]]
    assert by_hpa == dict(zip(goals_of_keda(), thresholds, strict=True))
    assert all(each["pods"]["target"]["type"] == "AverageValue" for each in autoscaler()["metrics"])
    assert autoscaler()["behavior"] == scaled_object()["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert autoscaler()["minReplicas"] == scaled_object()["minReplicaCount"] == scaled_object()["fallback"]["replicas"]
    assert autoscaler()["maxReplicas"] == scaled_object()["maxReplicaCount"]


def test_the_targets_are_those_of_the_simulation() -> None:
    """60 % of a pod's capacity, in image tokens, at the resolution that can do with fewer."""
    computed = json.loads((DEPLOY.parent / "load_tests" / "results" / "capacity.json").read_text())
    (tokens,) = (each for each in autoscaler()["metrics"] if each["pods"]["metric"]["name"] == TOKENS)
    least = min(0.6 * computed["capacities"][side] * count for side, count in (("224", 256), ("448", 1024)))
    assert quantity(tokens["pods"]["target"]["averageValue"]) == pytest.approx(least, rel=0.03)


def test_keda_takes_no_answer_for_no_load() -> None:
    namespace = of_kind(KEDA, "Deployment")[0]["metadata"]["namespace"]
    for each in scaled_object()["triggers"]:
        assert each["metadata"]["ignoreNullValues"] == "false"
        # One element, of this installation alone.
        assert each["metadata"]["query"].startswith("sum(")
        assert f'{{namespace="{namespace}",job="paliserve"' in each["metadata"]["query"]


@pytest.mark.parametrize("way", WAYS)
def test_an_autoscaled_deployment_has_no_number_of_its_own(way: str) -> None:
    scaled = of_kind(way, "HorizontalPodAutoscaler", "ScaledObject")
    assert len(scaled) <= 1
    for each in of_kind(way, "Deployment"):
        by_itself = not (scaled and scaled[0]["spec"]["scaleTargetRef"]["name"] == each["metadata"]["name"])
        assert ("replicas" in each["spec"]) == by_itself


def picker() -> dict[str, Any]:
    config = next(each["data"] for each in of_kind(POOL, "ConfigMap") if "endpoint-picker" in each["metadata"]["name"])
    parsed: dict[str, Any] = yaml.safe_load(config["endpoint-picker-config.yaml"])
    return parsed


def engine() -> dict[str, str]:
    (found,) = next(each for each in picker()["plugins"] if each["type"] == "core-metrics-extractor")["parameters"]["engineConfigs"]
    return {str(key): str(value) for key, value in found.items()}


def test_the_endpoint_picker_reads_pods_as_ours() -> None:
    assert server(POOL).labels["llm-d.ai/engine-type"] == engine()["name"] == "paliserve"
    # One number a pod, so no name that has a label for each model.
    specs = {key: value for key, value in engine().items() if key.endswith("Spec") and key != "loraSpec"}
    assert specs.keys() == {"queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec"}
    assert all(value.startswith("paliserve_pool_") for value in specs.values())


def test_the_endpoint_picker_uses_plugins_that_it_has_declared() -> None:
    declared = {each.get("name", each["type"]) for each in picker()["plugins"]}
    used = {each["pluginRef"] for profile in picker()["schedulingProfiles"] for each in profile["plugins"]}
    used |= {each["pluginRef"] for each in picker()["requestHandler"]["parsers"]}
    assert used <= declared
    # Prefixes are never shared here.
    assert not [name for name in declared if "prefix" in name]


def test_the_route_leads_to_the_pool_and_the_pool_to_the_picker() -> None:
    way = "gpu-224 with all and hpa"
    assert of_kind(way, "HTTPRoute")[0]["spec"]["rules"][0]["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "paliserve"}
    ]
    pool = of_kind(way, "InferencePool")[0]["spec"]
    assert [each["number"] for each in pool["targetPorts"]] == [server(way).pod["containers"][0]["ports"][0]["containerPort"]]
    service = next(each for each in of_kind(way, "Service") if each["metadata"]["name"] == pool["endpointPickerRef"]["name"])
    assert pool["endpointPickerRef"]["port"]["number"] in [each["port"] for each in service["spec"]["ports"]]


def test_pods_are_scraped_under_the_name_that_rules_ask_for() -> None:
    way = "gpu-224 with monitoring"
    monitor = of_kind(way, "PodMonitor")[0]["spec"]
    assert server(way).labels[monitor["jobLabel"]] == "paliserve"
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in [each["name"] for each in server(way).pod["containers"][0]["ports"]]
    assert endpoint["path"] == "/metrics"


def test_the_operator_gets_the_same_rules_as_everybody() -> None:
    assert WRITTEN.read_text() == prometheus_rule(), "run `make generate`"
    rendered = next(each for each in render("gpu-224 with monitoring") if each["kind"] == "PrometheusRule")
    assert rendered["spec"] == yaml.safe_load(RULES.read_text())

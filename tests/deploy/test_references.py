"""Whatever names something else: that it is there, and that it is the right one."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from service.settings import Settings
from tests.deploy.rendering import COMPONENTS, DEPLOY, OVERLAYS, ROOT, WAYS, Manifest, of_kind, render, selects, server, workloads

README = (DEPLOY / "README.md").read_text()
FROM_OUTSIDE = {"paliserve-admin", "paliserve-api-keys", "hub-token", "paliserve-tls"}
"""Secrets that people make: README says how."""

EACH = pytest.mark.parametrize("way", WAYS)
GATEWAY, INGRESS = "gpu-224 with gateway", "gpu-224 with ingress"
ALL = "gpu-224 with all and hpa"


def selected(way: str, selector: Manifest) -> list[str]:
    return [each.name for each in workloads(way) if each.kind != "InferenceService" and selects(selector, each.labels)]


def selectors(way: str) -> Iterator[tuple[str, Manifest, str]]:
    """Each selector, with the workload that it is for."""
    for each in render(way):
        name, spec = each["metadata"]["name"], each.get("spec", {})
        match each["kind"]:
            case "Service":
                yield name, spec["selector"], name.removesuffix("-headless")
            case "Deployment":
                yield name, spec["selector"]["matchLabels"], name
            case "PodDisruptionBudget" | "PodMonitor" | "InferencePool":
                yield name, spec["selector"]["matchLabels"], "paliserve"
            case "NetworkPolicy" if name == "paliserve-server":
                yield name, spec["podSelector"]["matchLabels"], "paliserve"
            case "NetworkPolicy" if selected(way, {"app.kubernetes.io/component": "download"}):
                yield name, spec["podSelector"]["matchLabels"], "paliserve-download"


@EACH
def test_a_selector_finds_its_workload_and_no_other(way: str) -> None:
    for name, selector, meant in selectors(way):
        assert selected(way, selector) == [meant], name


@EACH
def test_ports_are_those_of_the_settings_and_services_lead_there(way: str) -> None:
    settings = Settings()
    ports = {port["name"]: port["containerPort"] for port in server(way).pod["containers"][0]["ports"]}
    assert ports == {"http": settings.port, "grpc": settings.grpc_port}
    for service in of_kind(way, "Service"):
        workload = next(each for each in workloads(way) if each.name == service["metadata"]["name"].removesuffix("-headless"))
        named = {port["name"]: port["containerPort"] for port in workload.pod["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert named[port["targetPort"]] == port["port"]
            assert port["appProtocol"] == ("http" if port["name"] == "http" else "kubernetes.io/h2c")


def test_the_services_are_called_as_readme_calls_them() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind("overlays/demo-cpu", "Service")}
    assert services.keys() == {"paliserve", "paliserve-headless"}
    assert services["paliserve-headless"]["clusterIP"] == "None"
    assert "dns:///paliserve-headless:8001" in README


def named(found: Any) -> Iterator[tuple[str, str]]:
    """Every reference by name in a pod or an object: kind and name."""
    kinds = {
        "configMap": ("ConfigMap", "name"),
        "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
        "secretKeyRef": ("Secret", "name"),
    }
    if isinstance(found, dict):
        for key, value in found.items():
            if key in kinds and isinstance(value, dict):
                yield kinds[key][0], value[kinds[key][1]]
            elif key in {"serviceAccountName"}:
                yield "ServiceAccount", value
            elif key == "secretName":
                yield "Secret", value
            elif key in {"scaleTargetRef", "roleRef"}:
                yield value["kind"], value["name"]
            elif key == "subjects":
                yield from ((each["kind"], each["name"]) for each in value)
            elif key == "backendRefs":
                yield from ((each.get("kind", "Service"), each["name"]) for each in value)
            elif key == "endpointPickerRef" or (key == "service" and isinstance(value, dict)):
                yield "Service", value["name"]
            else:
                yield from named(value)
    elif isinstance(found, list):
        for each in found:
            yield from named(each)


@EACH
def test_what_is_named_is_there(way: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in render(way)} | {("Secret", name) for name in FROM_OUTSIDE}
    assert set(named(list(render(way)))) <= there


@EACH
def test_no_secret_is_kept_here_and_each_is_told_how_to_make(way: str) -> None:
    assert not of_kind(way, "Secret")
    for kind, name in named(list(render(way))):
        assert kind != "Secret" or f"create secret generic {name}" in README or f"create secret tls {name}" in README


def test_pods_start_without_secrets() -> None:
    for workload in workloads(ALL):
        for variable in [
            each for container in workload.containers for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})
        ]:
            assert variable["valueFrom"]["secretKeyRef"]["optional"] is True


def routed(path: str) -> list[bool]:
    """Whether the Ingress and the HTTPRoute let it in."""
    rules = of_kind(INGRESS, "Ingress")[0]["spec"]["rules"][0]["http"]["paths"]
    matches = of_kind(GATEWAY, "HTTPRoute")[0]["spec"]["rules"][0]["matches"]
    prefixes = (
        [each["path"] for each in rules if each["pathType"] == "Prefix"],
        [each["path"]["value"] for each in matches if each["path"]["type"] == "PathPrefix"],
    )
    exact = (
        [each["path"] for each in rules if each["pathType"] == "Exact"],
        [each["path"]["value"] for each in matches if each["path"]["type"] == "Exact"],
    )
    return [path in exact[n] or any(path == each or path.startswith(f"{each}/") for each in prefixes[n]) for n in (0, 1)]


def test_what_callers_need_is_let_in_and_the_rest_is_not() -> None:
    paths = json.loads((ROOT / "service/transports/rest/openapi.json").read_text())["paths"]
    inside = {"/metrics", "/livez", "/readyz", "/startupz"}
    assert inside < paths.keys()
    for path in [*paths, "/", "/playground/main.js", "/docs", "/openapi.json"]:
        assert routed(path) == [path not in inside] * 2, path


def test_grpc_routes_name_services_that_there_are() -> None:
    served = {"grpc.health.v1.Health"}
    for proto in (ROOT / "protos").rglob("*.proto"):
        package = re.search(r"^package ([\w.]+);", proto.read_text(), re.MULTILINE)
        assert package
        served |= {f"{package[1]}.{name}" for name in re.findall(r"^service (\w+)", proto.read_text(), re.MULTILINE)}
    route = of_kind(GATEWAY, "GRPCRoute")[0]["spec"]
    assert {match["method"]["service"] for match in route["rules"][0]["matches"]} == served
    assert route["rules"][0]["backendRefs"][0]["port"] == Settings().grpc_port
    # One listener gives a host to one kind of route.
    assert not set(route["hostnames"]) & set(of_kind(GATEWAY, "HTTPRoute")[0]["spec"]["hostnames"])


def test_proxies_wait_longer_than_the_server() -> None:
    longest = Settings().default_timeout_seconds
    timeout = of_kind(GATEWAY, "HTTPRoute")[0]["spec"]["rules"][0]["timeouts"]["request"]
    assert int(timeout.removesuffix("s")) > longest
    notes = of_kind(INGRESS, "Ingress")[0]["metadata"]["annotations"]
    assert int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest
    # A picture of the largest size, as base64.
    assert int(notes["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("m")) * 2**20 > Settings().max_image_bytes * 4 / 3


def test_policies_name_the_servers_ports_and_let_nothing_else_out() -> None:
    policy = next(each["spec"] for each in of_kind(ALL, "NetworkPolicy") if each["metadata"]["name"] == "paliserve-server")
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {"http", "grpc"}
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53}


@EACH
def test_one_disruption_at_a_time_leaves_some(way: str) -> None:
    for budget in of_kind(way, "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1


def test_readme_tells_of_every_overlay_and_component() -> None:
    assert not [name for name in [*OVERLAYS, *COMPONENTS] if f"`{name}`" not in README]

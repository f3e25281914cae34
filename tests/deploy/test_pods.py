"""What every pod must be: restricted, probed, bounded, and given the time to end that it needs."""

import json
import re
import tomllib

import pytest

from service.settings import Settings
from tests.deploy.rendering import ROOT, WAYS, Manifest, Workload, environment, of_kind, render, server, workloads

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ENDING = 10
"""Seconds for workers and connections to end once the last request has: see deploy/base/deployment.yaml."""

EACH = pytest.mark.parametrize("way", WAYS)


def seconds(probe: Manifest) -> int:
    """How long it may fail before it counts."""
    return int(probe["failureThreshold"]) * int(probe["periodSeconds"])


def before_stop(container: Manifest) -> int:
    return int(container["lifecycle"]["preStop"]["sleep"]["seconds"])


@EACH
def test_pods_are_restricted_as_the_pod_security_standard_says(way: str) -> None:
    for workload in workloads(way):
        pod = workload.pod
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == (65532 if "endpoint-picker" in workload.name else 10001)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in workload.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert all("hostPort" not in port for port in container.get("ports", []))
        kinds = {"emptyDir", "configMap", "persistentVolumeClaim", "secret"}
        assert all(volume.keys() - {"name"} <= kinds for volume in pod.get("volumes", []))


@EACH
def test_pods_take_neither_service_links_nor_tokens_that_they_do_not_need(way: str) -> None:
    for workload in workloads(way):
        assert workload.pod["enableServiceLinks"] is False
        assert workload.pod["automountServiceAccountToken"] is (workload.name == "paliserve-endpoint-picker")
    assert all(each["automountServiceAccountToken"] is False for each in of_kind(way, "ServiceAccount"))


@EACH
def test_every_container_is_bounded(way: str) -> None:
    for workload in workloads(way):
        for container in workload.containers:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert {"cpu", "memory"} <= requests.keys()
            assert "memory" in limits
            if container.get("command") == ["paliserve"]:
                # Memory that was not asked for is memory that can be missing when it is needed.
                assert requests["memory"] == limits["memory"]


@EACH
def test_every_image_is_pinned_and_ours_is_of_this_version(way: str) -> None:
    for workload in workloads(way):
        for container in workload.containers:
            name, _, tag = container["image"].rpartition(":")
            assert "/" in name, container["image"]
            assert re.fullmatch(r"v?\d+\.\d+\.\d+(-[a-z0-9]+)?", tag), container["image"]
            if container.get("command") == ["paliserve"]:
                gpu = "nvidia.com/gpu" in server(way).pod["containers"][0]["resources"]["limits"]
                assert tag == f"{VERSION}-{'cuda' if gpu else 'cpu'}"


@EACH
def test_every_container_that_serves_has_its_probes(way: str) -> None:
    for workload in workloads(way):
        if not workload.serves:
            assert workload.kind == "Job"
            continue
        for container in workload.containers:
            ports = {port["name"] for port in container["ports"]} | {port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container[probe].get("httpGet") or container[probe]["grpc"]
                assert asked["port"] in ports


@EACH
def test_the_server_is_asked_what_its_probes_answer(way: str) -> None:
    container = server(way).pod["containers"][0]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert set(paths.values()) <= json.loads((ROOT / "service/transports/rest/openapi.json").read_text())["paths"].keys()


@EACH
def test_a_rollout_waits_for_as_long_as_a_pod_may_start(way: str) -> None:
    for deployment in of_kind(way, "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert deployment["spec"].get("progressDeadlineSeconds", 600) > seconds(container["startupProbe"])


@EACH
def test_a_pod_has_the_time_to_finish_what_it_accepted(way: str) -> None:
    workload = server(way)
    container = workload.pod["containers"][0]
    needed = before_stop(container) + Settings().default_timeout_seconds + ENDING
    assert workload.pod["terminationGracePeriodSeconds"] > needed
    # One that is stuck can finish nothing.
    assert container["livenessProbe"]["terminationGracePeriodSeconds"] < before_stop(container)
    # Whoever passes answers on stays for as long.
    for other in workloads(way):
        if other.serves:
            assert other.pod["terminationGracePeriodSeconds"] >= Settings().default_timeout_seconds + before_stop(other.containers[0])


@EACH
def test_what_is_written_to_can_be_written_to(way: str) -> None:
    for workload in workloads(way):
        volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
        for container in workload.containers:
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert {mount["name"] for mount in mounts.values()} <= volumes.keys()
            for mount in mounts.values():
                volume = volumes[mount["name"]]
                if "configMap" in volume:
                    assert mount["readOnly"] is True
                elif "emptyDir" in volume:
                    assert volume["emptyDir"]["sizeLimit"]
            if container.get("command") == ["paliserve"]:
                assert environment(container)["HOME"] == "/tmp"
                assert environment(container)["HF_HOME"].startswith("/cache/")
                assert {"/tmp", "/cache"} <= mounts.keys()
                assert workload.kind == "Job" or volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"


@EACH
def test_replicas_are_spread(way: str) -> None:
    for each in workloads(way):
        if each.kind == "Deployment" and each.name == "paliserve":
            spread = {one["topologyKey"]: one for one in each.pod["topologySpreadConstraints"]}
            assert spread.keys() == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
            for one in spread.values():
                assert one["labelSelector"]["matchLabels"].items() <= each.labels.items()


@EACH
def test_gpus_are_asked_for_where_models_want_them(way: str) -> None:
    workload = server(way)
    limits = workload.pod["containers"][0]["resources"]["limits"]
    tolerated = [each for each in workload.pod.get("tolerations", []) if each["key"] == "nvidia.com/gpu"]
    if "gpu" in way or way in {"kserve", "examples/production"}:
        assert str(limits["nvidia.com/gpu"]) == "1"
        assert tolerated
    else:
        assert "nvidia.com/gpu" not in limits
        # The server starts as many processes as it has cores.
        assert limits["cpu"] == workload.pod["containers"][0]["resources"]["requests"]["cpu"]


def as_it_is(workload: Workload) -> Manifest:
    """What all servers have in common."""
    kept = ("command", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "securityContext")
    container = workload.pod["containers"][0]
    return {key: container[key] for key in kept} | {
        "ports": [(port["name"], port["containerPort"]) for port in container["ports"]],
        "mounts": [mount for mount in container["volumeMounts"] if mount["name"] != "config"],
        "environment": {
            key: value for key, value in environment(container).items() if not key.startswith(("HF_HUB", "PALISERVE_INSTANCES"))
        },
        "pod": [workload.pod[key] for key in ("securityContext", "terminationGracePeriodSeconds", "enableServiceLinks")],
    }


def test_kserve_runs_the_same_container() -> None:
    assert as_it_is(server("kserve")) == as_it_is(server("overlays/demo-cpu"))
    assert [each["metadata"]["name"] for each in render("kserve") if each["kind"] == "ServingRuntime"] == ["paliserve"]
    assert server("kserve").pod["containers"][0]["name"] == "kserve-container"

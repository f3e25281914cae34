"""What the server is configured with: every paliserve.toml and every variable, read by the server's own reader."""

import json
from pathlib import Path

import pytest

from service.model.hub import HUB_ID
from service.settings import PREFIX, Settings, load_settings
from tests.deploy.rendering import DEPLOY, WAYS, environment, of_kind, render, server, workloads

FILES = sorted(DEPLOY.rglob("paliserve.toml"))
EACH = pytest.mark.parametrize("way", WAYS)
SIDES = {"224": 224, "448": 448, "896": 896}


def settings(way: str, folder: Path) -> Settings:
    """As the pod of ``way`` reads them."""
    container = server(way).pod["containers"][0]
    environ = {name: value.replace("{{.Name}}", "named") for name, value in environment(container).items()}
    if way == "kserve":
        return load_settings(None, {}, environ)
    volume = next(each["configMap"]["name"] for each in server(way).pod["volumes"] if each["name"] == "config")
    text = next(each["data"]["paliserve.toml"] for each in of_kind(way, "ConfigMap") if each["metadata"]["name"] == volume)
    config = folder / "paliserve.toml"
    config.write_text(text)
    assert container["args"] == ["serve", "--config", "/etc/paliserve/paliserve.toml"]
    assert next(each["mountPath"] for each in container["volumeMounts"] if each["name"] == "config") == "/etc/paliserve"
    return load_settings(config, {}, environ)


@pytest.mark.parametrize("file", FILES, ids=[str(path.relative_to(DEPLOY)) for path in FILES])
def test_every_file_is_understood(file: Path) -> None:
    found = load_settings(file, {}, {})
    for instance in found.instances:
        assert HUB_ID.fullmatch(instance.source)
        assert (instance.revision, instance.dtype, instance.device) == ("bfloat16", "bfloat16", "cuda")
        assert instance.name == instance.source.partition("/")[2]
        assert instance.resolution in {None, SIDES[instance.name.rpartition("-")[2]]}


@EACH
def test_a_pod_listens_for_others_and_logs_for_machines(way: str, tmp_path: Path) -> None:
    found = settings(way, tmp_path)
    assert (found.host, found.port, found.grpc_port, found.log_format) == ("0.0.0.0", 8000, 8001, "json")
    # Where calls are balanced by connection, connections must end.
    assert found.grpc_connection_age_seconds


@EACH
def test_a_pod_says_who_may_call(way: str, tmp_path: Path) -> None:
    found, pod = settings(way, tmp_path), server(way).pod
    keyed = "api-keys" in way or " all " in way or way.startswith("examples/")
    assert (found.anonymous, found.api_keys_file) == ((None, "/etc/paliserve-keys/keys.toml") if keyed else (True, None))
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    assert secrets == ({"api-keys": "paliserve-api-keys"} if keyed else {})
    # A file by itself would not follow its Secret.
    assert all("subPath" not in mount for mount in pod["containers"][0]["volumeMounts"])


def test_overlays_serve_what_they_are_called_for(tmp_path: Path) -> None:
    served = {way: [each.name for each in settings(way, tmp_path).instances] for way in WAYS if way.startswith("overlays/")}
    assert served == {
        "overlays/demo-cpu": [],
        "overlays/gpu-224": ["paligemma-3b-mix-224"],
        "overlays/gpu-multi-resolution": ["paligemma-3b-mix-224", "paligemma-3b-mix-448", "paligemma-3b-pt-896"],
    }


def test_kserve_names_the_instance_after_its_service(tmp_path: Path) -> None:
    (instance,) = settings("kserve", tmp_path).instances
    assert (instance.name, instance.source) == ("named", "/mnt/models")
    value = environment(server("kserve").pod["containers"][0])["PALISERVE_INSTANCES"]
    # KServe fills it in as a template of Go, where two braces mean something.
    assert value.count("{{") == value.count("}}") == 1
    assert json.loads(value)[0]["name"] == "{{.Name}}"


@EACH
def test_every_variable_is_a_setting(way: str) -> None:
    for workload in workloads(way):
        names = [each["name"] for container in workload.containers for each in container.get("env", [])]
        assert len(names) == len(set(names))
        for name in names:
            assert not name.startswith(PREFIX) or name.removeprefix(PREFIX).lower() in Settings.model_fields


@pytest.mark.parametrize("way", [way for way in WAYS if "model-cache" in way or " all " in way or way.startswith("examples/")])
def test_with_a_cache_one_job_fetches_and_the_server_only_reads(way: str) -> None:
    job = next(each for each in workloads(way) if each.kind == "Job")
    container, other = job.containers[0], server(way).pod["containers"][0]
    assert container["image"] == other["image"]
    assert container["args"] == ["download", "--config", "/etc/paliserve/paliserve.toml"]
    assert environment(container)["HF_HOME"] == environment(other)["HF_HOME"]
    volumes = [{each["name"]: each for each in pod["volumes"]} for pod in (job.pod, server(way).pod)]
    assert volumes[0]["config"] == volumes[1]["config"]
    claims = [each["cache"]["persistentVolumeClaim"] for each in volumes]
    assert claims[1] == claims[0] | {"readOnly": True}
    assert next(mount for mount in other["volumeMounts"] if mount["name"] == "cache")["readOnly"] is True
    assert environment(other)["HF_HUB_OFFLINE"] == "1"
    # The token is where it is needed, and nowhere else.
    assert "HF_TOKEN" in [each["name"] for each in container["env"]]
    assert "HF_TOKEN" not in [each["name"] for each in other["env"]]


def test_a_changed_setting_is_a_new_rollout() -> None:
    names = {of_kind(way, "ConfigMap")[0]["metadata"]["name"] for way in WAYS if way.startswith("overlays/")}
    assert len(names) == 3
    assert all(name.startswith("paliserve-") for name in names)
    assert render("overlays/gpu-224")

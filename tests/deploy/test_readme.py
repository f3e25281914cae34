"""The commands and files that ``deploy/README.md`` shows: each is run as far as that can be without a cluster."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from service.access.keys import read_keys
from tests.cluster.test_replicas import KEEPALIVE, ROUND_ROBIN
from tests.deploy.rendering import DEPLOY, ROOT, WAYS, render
from tests.end_to_end.authority import Authority
from tests.end_to_end.conftest import needed
from tests.end_to_end.readmes import blocks

README = (DEPLOY / "README.md").read_text()
BLOCKS = blocks(README)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines() if not line.startswith("#")]
MADE = [line for line in COMMANDS if re.match(r"kubectl (-n \S+ )?create ", line)]
"""What they make is shown by ``--dry-run=client``."""

ELSEWHERE = {"kubectl kustomize . | less", "paliserve key team-a --requests-per-minute 600 >> keys.toml"}
"""Run by tests of their own."""

NEED_A_CLUSTER = {
    "kubectl label namespace paliserve pod-security.kubernetes.io/enforce=restricted",
    "kubectl apply -k .",
    "kubectl -n paliserve rollout status deployment/paliserve",
    "kubectl -n paliserve port-forward service/paliserve 8000 &",
    "curl -s http://127.0.0.1:8000/v1/caption -F image=@picture.jpg",
    "kubectl -n monitoring label configmap paliserve-dashboard grafana_dashboard=1",
    "kubectl apply -k . && kubectl -n paliserve wait --for=condition=complete --timeout=2h job/paliserve-download",
}
"""They change or ask a running cluster; there is none."""


def yaml_block(holds: str) -> str:
    (found,) = [text for language, text in BLOCKS if language == "yaml" and holds in text]
    return found


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the commands' files are."""
    (tmp_path / "token.txt").write_text("hf_token")
    (tmp_path / "deploy").symlink_to(DEPLOY)
    Authority("paliserve.example.com").write(tmp_path / "tls.crt", tmp_path / "tls.key")
    key = next(line for line in COMMANDS if line.startswith("paliserve key"))
    shell(key.replace("paliserve key", f"{sys.executable} -m service.main key"), tmp_path, PYTHONPATH=str(ROOT))
    return tmp_path


def shell(command: str, folder: Path, **environ: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def made(command: str, folder: Path) -> dict[str, Any]:
    needed("kubectl")
    alone = command.partition(" | kubectl apply")[0]
    shown = alone if "--dry-run=client" in alone else f"{alone} --dry-run=client -o yaml"
    # Whatever cluster this machine knows, nobody asks it.
    found: dict[str, Any] = yaml.safe_load(shell(shown, folder, KUBECONFIG=os.devnull))
    return found


def test_every_command_is_run_or_needs_a_cluster() -> None:
    assert {*COMMANDS} == {*MADE, *ELSEWHERE, *NEED_A_CLUSTER}


def test_what_is_made_is_what_the_manifests_name(files: Path) -> None:
    objects = [made(command, files) for command in MADE]
    assert {each["kind"] for each in objects} == {"Namespace", "Secret", "ConfigMap"}
    secrets = {each["metadata"]["name"]: set(each["data"]) for each in objects if each["kind"] == "Secret"}
    for way in WAYS:
        text = json.dumps(render(way))
        for reference in re.findall(r'"secretKeyRef": (\{.*?\})', text):
            told = json.loads(reference)
            assert told["key"] in secrets[told["name"]], way
        assert set(re.findall(r'"secretName": "([^"]+)"', text)) <= set(secrets), way
    assert secrets["paliserve-tls"] == {"tls.crt", "tls.key"}
    for each in objects:
        if each["kind"] == "Secret":
            assert each["metadata"]["namespace"] == "paliserve"


def test_the_key_is_one_that_servers_read(files: Path) -> None:
    (key,) = read_keys(files / "keys.toml")
    assert (key.name, key.limits.requests_per_minute) == ("team-a", 600)


@pytest.mark.parametrize("own_settings", [False, True], ids=["the smallest", "with settings of its own"])
def test_the_kustomizations_are_rendered(tmp_path: Path, own_settings: bool) -> None:
    needed("kubectl")
    (tmp_path / "paliserve").mkdir()
    (tmp_path / "paliserve" / "deploy").symlink_to(DEPLOY)
    ours = tmp_path / "ours"
    ours.mkdir()
    text = yaml_block("kind: Kustomization")
    if own_settings:
        text += yaml_block("configMapGenerator")
        (ours / "paliserve.toml").write_text("max_queue = 77\n")
    (ours / "kustomization.yaml").write_text(text)
    objects = list(yaml.safe_load_all(shell("kubectl kustomize . | cat", ours)))
    (server,) = [each for each in objects if each["kind"] == "Deployment"]
    assert server["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.of.yours/paliserve:0.1.0-cpu"
    assert {each["metadata"]["namespace"] for each in objects} == {"paliserve"}
    (settings,) = [each for each in objects if each["kind"] == "ConfigMap"]
    assert ("max_queue = 77" in settings["data"]["paliserve.toml"]) is own_settings


def test_clients_that_know_all_addresses_are_those_of_the_cluster_tests() -> None:
    (text,) = [text for language, text in BLOCKS if language == "python"]
    scope: dict[str, Any] = {"grpc": grpc, "json": json}
    exec(text.replace("[...]", "[]"), scope)  # (the README's own text)
    scope["channel"].close()
    assert scope["config"] == ROUND_ROBIN | {"methodConfig": []}
    assert scope["keepalive"] == KEEPALIVE

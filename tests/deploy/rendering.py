"""What kubectl makes of ``deploy/``: every overlay, KServe's, the examples, and components upon overlays."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(path.name for path in (DEPLOY / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())
ALONE = {"hpa", "keda"}
"""One of them at a time."""

ON_TOP = sorted(set(COMPONENTS) - ALONE, key=lambda name: (name == "inference-pool", name))
"""In an order that works: the pool changes the gateway's route."""

WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"overlays/{name}": (f"overlays/{name}", ()) for name in OVERLAYS},
    **{f"examples/{path.name}": (f"examples/{path.name}", ()) for path in sorted((DEPLOY / "examples").iterdir())},
    "kserve": ("kserve", ()),
    **{f"gpu-224 with {name}": ("overlays/gpu-224", (name,)) for name in COMPONENTS if name != "gpu"},
    **{f"{name} with all and hpa": (f"overlays/{name}", ("hpa", *(each for each in ON_TOP if each != "gpu"))) for name in OVERLAYS},
    "gpu-224 with all and keda": ("overlays/gpu-224", ("keda", *(each for each in ON_TOP if each != "gpu"))),
}
"""What is rendered, by a name for people: the folder, and the components upon it."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """Something that makes pods: a Deployment, a Job, or what KServe makes one of."""

    kind: str
    name: str
    labels: Mapping[str, str]
    pod: Manifest
    serves: bool

    @property
    def containers(self) -> list[Manifest]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]


@cache
def render(way: str) -> tuple[Manifest, ...]:
    """All objects. A component's own have no namespace until the kustomization around them says it, as README tells."""
    folder, components = WAYS[way]
    if not components:
        return _kustomize(DEPLOY / folder)
    with tempfile.TemporaryDirectory() as made:
        around = {
            "namespace": "paliserve",
            "resources": [os.path.relpath(DEPLOY / folder, made)],
            "components": [os.path.relpath(DEPLOY / "components" / name, made) for name in components],
        }
        (Path(made) / "kustomization.yaml").write_text(yaml.safe_dump(around))
        return _kustomize(Path(made))


def _kustomize(folder: Path) -> tuple[Manifest, ...]:
    kubectl = shutil.which("kubectl")
    if kubectl is None and not os.environ.get("CI"):
        pytest.skip("kubectl is not installed")
    assert kubectl, "kubectl is not installed"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def of_kind(way: str, *kinds: str) -> list[Manifest]:
    return [each for each in render(way) if each["kind"] in kinds]


def workloads(way: str) -> Iterator[Workload]:
    for each in render(way):
        name = each["metadata"]["name"]
        if each["kind"] in {"Deployment", "Job"}:
            template = each["spec"]["template"]
            yield Workload(each["kind"], name, template["metadata"]["labels"], template["spec"], each["kind"] == "Deployment")
        elif each["kind"] == "InferenceService":
            yield Workload(each["kind"], name, {}, _merged(way, each["spec"]["predictor"]), True)


def _merged(way: str, predictor: Manifest) -> Manifest:
    """As KServe does it: the runtime's container, with what the model says over it."""
    runtime = next(each["spec"] for each in of_kind(way, "ServingRuntime") if each["metadata"]["name"] == predictor["model"]["runtime"])
    assert len(runtime["containers"]) == 1
    pod = {key: value for key, value in predictor.items() if key not in {"model", "minReplicas"}}
    container = runtime["containers"][0] | {"resources": predictor["model"]["resources"]}
    return pod | {"containers": [container], "volumes": runtime["volumes"]}


def server(way: str) -> Workload:
    """The one whose container is ours and listens."""
    return next(each for each in workloads(way) if each.serves and each.pod["containers"][0].get("command") == ["paliserve"])


def environment(container: Manifest) -> dict[str, str]:
    """The plain values; those of Secrets are not there."""
    return {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())

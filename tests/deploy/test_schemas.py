"""Every object against its schema: Kubernetes' own, strictly; of custom resources what we use of their published definitions."""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.rendering import WAYS, Manifest, render, workloads

KUBERNETES = "1.34"
CUSTOM: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text())


def kind(manifest: Manifest) -> str:
    return f"{manifest['apiVersion']}/{manifest['kind']}"


def check(manifest: Manifest) -> None:
    """Errors: jsonschema's, and KeyError where nobody knows the kind."""
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        jsonschema.validate(manifest, CUSTOM[kind(manifest)] | {"$defs": CUSTOM["definitions"]}, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("way", WAYS)
def test_every_object_is_as_its_schema_says(way: str) -> None:
    manifests = render(way)
    assert manifests
    for manifest in manifests:
        try:
            check(manifest)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            pytest.fail(f"{kind(manifest)} {manifest['metadata']['name']}: {'.'.join(map(str, error.path))}: {error.message}")
        except KeyError:
            pytest.fail(f"{kind(manifest)}: neither Kubernetes' schemas nor custom_resources.yaml know it")


@pytest.mark.parametrize("way", WAYS)
def test_names_are_unique_and_all_is_in_one_namespace(way: str) -> None:
    manifests = render(way)
    names = [(kind(each), each["metadata"]["name"]) for each in manifests]
    assert len(names) == len(set(names))
    assert {each["metadata"].get("namespace") for each in manifests} == {"paliserve"}


def test_the_pod_that_kserve_makes_is_one() -> None:
    pod = next(workloads("kserve")).pod
    check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}, "spec": pod})


@pytest.mark.parametrize("known", [each for each in CUSTOM if each != "definitions"])
def test_our_schemas_are_used_and_closed(known: str) -> None:
    """What no manifest uses is not kept, and a misspelt field is found."""
    found = next(each for way in WAYS for each in render(way) if kind(each) == known)
    check(found)
    misspelt = found | {"spec": found["spec"] | {"nmae": "x"}}
    with pytest.raises(jsonschema.ValidationError):
        check(misspelt)


def test_a_misspelt_field_and_an_unknown_kind_are_found() -> None:
    service = next(each for each in render("overlays/demo-cpu") if each["kind"] == "Service")
    with pytest.raises(kubernetes_validate.ValidationError):
        check(service | {"spec": service["spec"] | {"slector": {}}})
    with pytest.raises(KeyError):
        check(service | {"apiVersion": "example.com/v1"})

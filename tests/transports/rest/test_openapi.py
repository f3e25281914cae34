"""The document that clients are written from, the pages around it, and the probes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import Draining
from service.transports.offers import OFFERS
from service.transports.rest import problems
from tests.transports.rest.service_fake import Rest, problem

COMMITTED = Path(__file__).parents[3] / "service/transports/rest/openapi.json"


@pytest.fixture
def document(rest: Rest) -> dict[str, Any]:
    found: dict[str, Any] = rest.get("/openapi.json").json()
    return found


def inputs(schema: dict[str, Any], schemas: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a value that a caller may send."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    yield where, schema
    for each in (*schema.get("anyOf", []), *schema.get("oneOf", [])):
        yield from inputs(each, schemas, where)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from inputs(schema["additionalProperties"], schemas, f"{where}{{}}")
    if "items" in schema:
        yield from inputs(schema["items"], schemas, f"{where}[]")
    for name, each in schema.get("properties", {}).items():
        yield from inputs(each, schemas, f"{where}.{name}")


def test_the_committed_document_is_the_codes(document: dict[str, Any]) -> None:
    committed = json.loads(COMMITTED.read_text())
    # The version is that of the installed package.
    assert committed | {"info": document["info"]} == document
    assert {**committed["info"], "version": ""} == {**document["info"], "version": ""}


def test_every_reference_is_there(document: dict[str, Any]) -> None:
    names = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


@pytest.mark.parametrize("task", sorted(OFFERS))
def test_a_task_documents_both_bodies_and_every_problem(document: dict[str, Any], task: str) -> None:
    operation = document["paths"][f"/v1/{task}"]["post"]
    assert operation["requestBody"]["required"] is True
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    for content in operation["requestBody"]["content"].values():
        schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        assert set(schema["properties"]) == {"image", "images", *OFFERS[task].request.model_fields}
        assert schema["oneOf"] == [{"required": ["image"]}, {"required": ["images"]}]
        assert schema["additionalProperties"] is False
    assert set(operation["responses"]) == {"200", *(str(code.status) for code in problems.TABLE.values())}
    for status, response in operation["responses"].items():
        assert set(response["content"]) == ({"application/json", "text/event-stream"} if status == "200" else {"application/problem+json"})


@pytest.mark.parametrize("task", sorted(OFFERS))
def test_threat_33_every_input_has_a_maximum(document: dict[str, Any], task: str) -> None:
    schemas = document["components"]["schemas"]
    seen = set()
    for content in document["paths"][f"/v1/{task}"]["post"]["requestBody"]["content"].values():
        for where, schema in inputs(content["schema"], schemas, ""):
            kind = schema.get("type")
            seen.add(kind)
            # The image's maximum is the operator's; bodies hold to it.
            if (where in (".image", ".images[]", ".images") and kind == "string") or "enum" in schema or "const" in schema:
                continue
            if kind == "string":
                assert "maxLength" in schema, where
            if kind in ("integer", "number"):
                assert "maximum" in schema or "exclusiveMaximum" in schema, where
            if kind == "array":
                assert "maxItems" in schema, where
    assert {"string", "integer", "number", "boolean"} <= seen


def unbounded(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    # The image's maximum is the operator's; bodies hold to it.
    if "enum" in schema or "const" in schema or schema.get("format") in ("byte", "binary"):
        return False
    return (
        (kind == "string" and "maxLength" not in schema)
        or (kind in ("integer", "number") and "maximum" not in schema and "exclusiveMaximum" not in schema)
        or (kind == "array" and "maxItems" not in schema)
        or (kind == "object" and "properties" not in schema and "maxProperties" not in schema)
    )


def test_threat_33_every_value_that_may_be_sent_has_a_maximum(document: dict[str, Any]) -> None:
    schemas, seen = document["components"]["schemas"], 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            sent = [each["schema"] for each in operation.get("parameters", ())]
            sent += [each["schema"] for each in operation.get("requestBody", {}).get("content", {}).values()]
            for schema in sent:
                for where, each in inputs(schema, schemas, f"{method} {path}"):
                    assert not unbounded(each), (where, each)
                    seen += 1
    assert seen > 300


@pytest.mark.parametrize("task", sorted(OFFERS))
def test_the_examples_can_be_sent(rest: Rest, document: dict[str, Any], task: str) -> None:
    example = document["paths"][f"/v1/{task}"]["post"]["requestBody"]["content"]["application/json"]["example"]
    response = rest.call("POST", f"/v1/{task}", json=example)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("task", sorted(OFFERS))
def test_an_answer_has_exactly_the_documented_fields(rest: Rest, document: dict[str, Any], task: str) -> None:
    schema = document["paths"][f"/v1/{task}"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    documented = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert set(documented["properties"]) == set(documented["required"]) == set(rest.json(task).json())


def test_pages(rest: Rest) -> None:
    docs = rest.get("/docs")
    assert docs.status_code == 200
    assert docs.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/v1/models", "/metrics", "/livez"])
def test_threat_30_ranges_are_ignored(rest: Rest, path: str) -> None:
    whole = rest.get(path)
    ranges = "bytes=" + ",".join(f"{number}-{number}" for number in range(5_000))
    response = rest.get(path, headers={"range": ranges, "if-range": "*"})
    assert response.status_code == 200
    assert "content-range" not in response.headers
    assert path == "/metrics" or response.content == whole.content


@pytest.mark.parametrize("path", ["/docs/../openapi.json", "/..%2f..%2fetc/passwd", "/static/../../etc/passwd", "//etc/passwd"])
def test_threat_30_no_path_leads_to_a_file(rest: Rest, path: str) -> None:
    response = rest.get(f"http://test{path}")
    assert response.status_code in (200, 404)
    assert "root:" not in response.text


def test_a_service_that_stops_takes_nothing_new(rest: Rest) -> None:
    rest.service.refusal = Draining("The service is stopping; ask another replica.")
    for task in OFFERS:
        response = rest.json(task)
        problem(response, 503, "draining")
        assert int(response.headers["retry-after"]) >= 1
    assert "retry-after" in rest.get("/readyz").headers
    problem(rest.get("/readyz"), 503, "draining")
    assert not rest.fake.calls
    assert rest.get("/livez").status_code == 200
    assert rest.get("/v1/models").status_code == 200
    assert rest.get("/metrics").status_code == 200


def test_probes(rest: Rest) -> None:
    for path in ("/livez", "/readyz", "/startupz"):
        response = rest.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    rest.service.lives = False
    problem(rest.get("/livez"), 503, "model_not_ready")


def test_the_exposition(rest: Rest) -> None:
    response = rest.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'paliserve_build_info{version="0"} 1.0' in response.text

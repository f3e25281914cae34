"""The OpenAPI document. ``python -m service.transports.rest.openapi`` prints it."""

import json
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.transports.rest import problems, requests
from service.transports.rest.ports import Service
from service.transports.rest.problems import Code

REQUESTS: dict[str, type[requests.TaskRequest]] = {
    "caption": requests.CaptionRequest,
    "answer": requests.AnswerRequest,
    "detect": requests.DetectRequest,
    "segment": requests.SegmentRequest,
    "read": requests.ReadRequest,
    "caption-region": requests.CaptionRegionRequest,
    "generate": requests.GenerateRequest,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
"""A picture of one black pixel, as an example that can be sent."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "answer": {"question": "how many shapes are there?"},
    "detect": {"objects": ["red circle", "sign"]},
    "segment": {"objects": ["red circle"]},
    "caption-region": {"box": {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}},
    "generate": {"prompt": "caption en"},
}


class FieldProblemBody(BaseModel):
    """A field that cannot be accepted."""

    field: str
    problem: str


class ProblemBody(BaseModel):
    """RFC 9457, with a stable ``code``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblemBody] | None = None


def describe(application: FastAPI) -> dict[str, Any]:
    """FastAPI's document with what it cannot know: both forms of the bodies, and every problem."""
    if application.openapi_schema:
        return application.openapi_schema
    document = get_openapi(
        title=application.title, version=application.version, description=application.description, routes=application.routes
    )
    schemas: dict[str, Any] = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _add(schemas, ProblemBody)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            task = path.removeprefix("/v1/")
            if task in REQUESTS:
                operation["requestBody"] = _bodies(task, schemas)
            for code in _problems_of(path):
                operation["responses"].setdefault(str(code.status), _problem(code))
    application.openapi_schema = document
    return document


def _bodies(task: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The request of a task, with its image as text or as a file."""
    model = REQUESTS[task]
    _add(schemas, model)
    fields = schemas.pop(model.__name__)
    content = {}
    for kind, name, image in (
        (
            "application/json",
            model.__name__,
            {
                "type": "string",
                "format": "byte",
                "description": "Base64, a data URL of it, or an https URL where the operator allows its host.",
            },
        ),
        ("multipart/form-data", model.__name__.replace("Request", "Form"), {"type": "string", "format": "binary"}),
    ):
        required = ["image", *fields.get("required", [])]
        own = (
            fields["properties"] if kind == "application/json" else {key: _without_null(each) for key, each in fields["properties"].items()}
        )
        schemas[name] = fields | {"title": name, "properties": {"image": image} | own, "required": required}
        content[kind] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    content["application/json"]["example"] = {"image": PIXEL} | EXAMPLES.get(task, {})
    return {"required": True, "content": content}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: what is not given is left out."""
    kept = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if not kept:
        return schema
    plain = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return plain | (kept[0] if len(kept) == 1 else {"anyOf": kept})


def _problems_of(path: str) -> list[Code]:
    if path.removeprefix("/v1/") in REQUESTS:
        return list(problems.TABLE.values())
    if path == "/v1/models/{name}":
        return [code for code in problems.TABLE.values() if code.code == "model_not_found"]
    if path in ("/livez", "/readyz"):
        return [code for code in problems.TABLE.values() if code.status == 503]
    return []


def _problem(code: Code) -> dict[str, Any]:
    described = " or ".join(dict.fromkeys(each.code for each in problems.TABLE.values() if each.status == code.status))
    return {"description": described, "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}}


def _add(schemas: dict[str, Any], model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[model.__name__] = schema


def _print() -> None:
    from service.observability.metrics import Metrics  # noqa: PLC0415
    from service.transports.rest.application import create_application  # noqa: PLC0415

    # A service is asked only when a request comes, and none will.
    nobody = cast("Service", None)
    print(json.dumps(create_application(nobody, Metrics("0"), 0).openapi(), indent=1))


if __name__ == "__main__":
    _print()

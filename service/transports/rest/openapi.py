"""The OpenAPI document. ``python -m service.transports.rest.openapi`` prints it."""

import json
from collections.abc import Callable
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.errors import PaliServeError
from service.transports.offers import OFFERS
from service.transports.ports import Service
from service.transports.requests import LONGEST_NAME
from service.transports.rest import problems
from service.transports.rest.batch import MOST_REQUESTS
from service.transports.rest.chat_requests import ChatRequest
from service.transports.rest.chat_responses import ChatChunk
from service.transports.rest.event_stream import MEDIA_TYPE
from service.transports.rest.events import DetectionEventBody, SegmentEventBody, TokenEventBody
from service.transports.rest.forms import MOST_IMAGES
from service.transports.rest.inference_bodies import InferBody
from service.transports.rest.models import AdapterRequest
from service.transports.rest.problems import Code, ProblemBody
from service.transports.rest.refusals import UnsupportedConversation, UnsupportedParameter
from service.transports.rest.secured import at_the_door, tell_of_keys

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
"""A picture of one black pixel, as an example that can be sent."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "answer": {"question": "how many shapes are there?"},
    "detect": {"objects": ["red circle", "sign"]},
    "segment": {"objects": ["red circle"]},
    "caption-region": {"box": {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}},
    "generate": {"prompt": "caption en"},
}

CHAT = "chat/completions"
_CHATS_OWN = (UnsupportedConversation, UnsupportedParameter)
_NO_BODY = ("invalid_request", "unsupported_media_type", "request_too_large", "request_timeout")
_OF_A_BATCH = (*_NO_BODY, "permission_denied", "draining", "internal")
"""Everything else is the error of one of its requests."""
_OF_AN_ADAPTER = ("adapter_not_found", *_NO_BODY)
_TASK_EVENTS: dict[str, type[BaseModel]] = {
    "token": TokenEventBody, "detection": DetectionEventBody, "segment": SegmentEventBody, "error": ProblemBody,
}  # fmt: skip
_EVENTS = (
    "Where `stream` is true: server-sent events whose data is JSON. `token` as text becomes certain, `detection` and `segment` as soon as "
    "each is complete, at last `result` with the whole response. What goes wrong before the first event is a problem document with its own "
    "status, later an `error` event with the document, which ends the stream. Comments show that the connection lives."
)
_CHUNKS = (
    "Where `stream` is true: chunks as `data:`, first the role, then text, then the finish reason with `paligemma`, the usage where "
    "`stream_options.include_usage` asks for it, at last `[DONE]`. What goes wrong later than the first is `data:` with an `error`."
)
_BINARY = (
    "JSON, or with the header `Inference-Header-Content-Length` that many bytes of JSON and behind them the elements of the tensors that "
    "have `binary_data_size`, each with its length before it in four bytes, least significant first."
)

Choice = Callable[[type[PaliServeError], Code], bool]


def _not_chats(error: type[PaliServeError], code: Code) -> bool:
    return error not in _CHATS_OWN


def _unavailable(error: type[PaliServeError], code: Code) -> bool:
    return code.status == 503


def _unknown(error: type[PaliServeError], code: Code) -> bool:
    return code.code == "model_not_found"


def _of_an_administrator(error: type[PaliServeError], code: Code) -> bool:
    return code.code in ("unauthenticated", "permission_denied", "model_not_found", "model_not_ready", "draining")


def _of_an_adapter(error: type[PaliServeError], code: Code) -> bool:
    return _of_an_administrator(error, code) or code.code in _OF_AN_ADAPTER


ADAPTER = "/v1/models/{name}/adapters/{adapter}"
_ADAPTER_BODY = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/AdapterRequest"}}}}

_PROBLEMS: dict[str, Choice] = {
    **dict.fromkeys(OFFERS, _not_chats),
    CHAT: lambda error, code: True,
    "batch": lambda error, code: code.code in _OF_A_BATCH,
    **dict.fromkeys(("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"), _unavailable),
    "/v1/models/{name}": _unknown,
    **dict.fromkeys(("/v1/models/{name}/load", "/v1/models/{name}/unload"), _of_an_administrator),
    **dict.fromkeys((f"{ADAPTER}/load", f"{ADAPTER}/unload"), _of_an_adapter),
}
"""Which problems a path answers, by its name or as a whole."""
for _path in ("/v2/models/{model}", "/v2/models/{model}/versions/{model_version}"):
    _PROBLEMS |= {_path: _unknown, f"{_path}/ready": lambda *each: _unknown(*each) or _unavailable(*each), f"{_path}/infer": _not_chats}


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
    for model in (ProblemBody, TokenEventBody, DetectionEventBody, SegmentEventBody, ChatRequest, ChatChunk, InferBody, AdapterRequest):
        _add(schemas, model)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for each in operation.get("parameters", ()):  # A longer name is the name of nothing.
                each["schema"].setdefault("maxLength", LONGEST_NAME)
            operation["responses"].pop("422", None)
            name = path.removeprefix("/v1/")
            if path == f"{ADAPTER}/load":
                operation["requestBody"] = _ADAPTER_BODY
            if name in OFFERS:
                operation["requestBody"] = _bodies(name, schemas)
                events = _TASK_EVENTS | {"result": OFFERS[name].response}
                _answers_events(operation, _EVENTS, {event: [_json_of(model.__name__)] for event, model in events.items()})
            elif name == "batch":
                operation["requestBody"] = _batch_body(schemas)
            elif name == CHAT:
                operation["requestBody"] = _chat_body()
                chunks = [{"const": "[DONE]"}, _json_of("ChatChunk"), _json_of("ProblemBody")]
                _answers_events(operation, _CHUNKS, {"message": chunks})
            elif path.endswith("/infer"):
                operation["requestBody"] = _infer_body()
                binary = {"schema": {"type": "string", "format": "binary", "description": _BINARY}}
                operation["responses"]["200"]["content"]["application/octet-stream"] = binary
            for code in _problems_of(path):
                operation["responses"].setdefault(str(code.status), _problem(code))
    tell_of_keys(document)
    application.openapi_schema = document
    return document


IMAGES = "In place of `image`, for checkpoints that take several pictures of a request, such as frames of a video."


def _bodies(task: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The request of a task, with its image as text or as a file."""
    model = OFFERS[task].request
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
        images = {"type": "array", "items": image, "minItems": 1, "maxItems": MOST_IMAGES, "description": IMAGES}
        own = (
            fields["properties"] if kind == "application/json" else {key: _without_null(each) for key, each in fields["properties"].items()}
        )
        schemas[name] = fields | {
            "title": name,
            "properties": {"image": image, "images": images} | own,
            "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
        }
        content[kind] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    content["application/json"]["example"] = {"image": PIXEL} | EXAMPLES.get(task, {})
    return {"required": True, "content": content}


def _batch_body(schemas: dict[str, Any]) -> dict[str, Any]:
    """Requests are those of the tasks, each with its task's name, and without an image where the batch's is meant."""
    items = []
    for task, offer in OFFERS.items():
        whole = schemas[offer.request.__name__]
        name = offer.request.__name__.replace("Request", "BatchItem")
        properties = {"task": {"const": task, "type": "string"}, **whole["properties"], "stream": {"const": False, "type": "boolean"}}
        required = ["task", *whole.get("required", [])]
        alone = {key: each for key, each in whole.items() if key != "oneOf"} | {"not": {"required": ["image", "images"]}}
        schemas[name] = alone | {"title": name, "properties": properties, "required": required}
        items.append({"$ref": f"#/components/schemas/{name}"})
    schemas["BatchRequest"] = {
        "title": "BatchRequest",
        "type": "object",
        "description": "What is wrong with one of the requests is told in its own result.",
        "properties": {
            "image": {
                "anyOf": [schemas["CaptionRequest"]["properties"]["image"], {"type": "null"}],
                "description": "The image of each request that has none.",
            },
            # Each item by its schema, or anything: an item that fits none is no error of the batch.
            "requests": {"type": "array", "minItems": 1, "maxItems": MOST_REQUESTS, "items": {"anyOf": [*items, {}]}},
        },
        "required": ["requests"],
        "additionalProperties": False,
    }
    example = {"image": PIXEL, "requests": [{"task": "caption"}, {"task": "detect"} | EXAMPLES["detect"]]}
    return {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchRequest"}, "example": example}},
    }


def _chat_body() -> dict[str, Any]:
    parts = [{"type": "text", "text": "caption en"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    example = {"messages": [{"role": "user", "content": parts}]}
    return {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}, "example": example}}}


def _infer_body() -> dict[str, Any]:
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [PIXEL]},
        {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["caption en"]},
    ]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/InferBody"}, "example": {"inputs": inputs}}}
    return {"required": True, "description": _BINARY, "content": content}


def _answers_events(operation: dict[str, Any], description: str, events: dict[str, list[dict[str, Any]]]) -> None:
    """What comes where ``stream`` is true. The schema is that of each event, as OpenAPI 3.1 has it."""
    kinds = [
        {
            "type": "object",
            "properties": {"event": {"const": name}, "data": each[0] if len(each) == 1 else {"anyOf": each}},
            "required": ["event", "data"],
        }
        for name, each in events.items()
    ]
    operation["responses"]["200"]["content"][MEDIA_TYPE] = {"schema": {"description": description, "oneOf": kinds}}


def _json_of(name: str) -> dict[str, Any]:
    """Text that is JSON of a schema."""
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": {"$ref": f"#/components/schemas/{name}"}}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: what is not given is left out."""
    kept = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if not kept:
        return schema
    plain = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return plain | (kept[0] if len(kept) == 1 else {"anyOf": kept})


def _problems_of(path: str) -> list[Code]:
    told = _PROBLEMS.get(path.removeprefix("/v1/")) or _PROBLEMS.get(path)
    door = at_the_door(path)
    return [code for error, code in problems.TABLE.items() if code.code in door or (told and told(error, code))]


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

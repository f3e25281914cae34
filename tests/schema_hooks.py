"""For schemathesis against a running server: see ``schemathesis.toml``."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import schemathesis
from jsonschema import Draft202012Validator
from schemathesis.generation import GenerationMode

import service.transports.rest

DOCUMENT = json.loads((Path(service.transports.rest.__file__).parent / "openapi.json").read_text())
FORM = "multipart/form-data"


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: Any) -> bool:
    """Leave out forms that were made to break their schema, and are good ones on the wire.

    All values of a form are text, and an empty list is sent as nothing at all. Left out too are requests with both image and images, which
    some generators make in spite of the schema, and those with several pictures: the document is that of any instance, and those that are
    asked take one.
    """
    body = case.body
    if isinstance(body, dict) and isinstance(images := body.get("images"), list) and ("image" in body or len(images) > 1):
        return False
    if case.media_type != FORM or not isinstance(body, dict):
        return True
    if [] in body.values() or not isinstance(body.get("objects", []), list):
        return False
    return case.meta.generation.mode is not GenerationMode.NEGATIVE or not is_good_form(case.operation.path, body)


def is_good_form(path: str, body: Mapping[str, Any]) -> bool:
    """Whether the text of each field can be read as what the schema wants of it."""
    schema = DOCUMENT["paths"][path]["post"]["requestBody"]["content"][FORM]["schema"]
    read = {}
    for name, value in body.items():
        read[name] = value if isinstance(value, list) else str(value)
        if name not in ("image", "images", "objects", "question", "prompt", "language"):
            with suppress(ValueError, TypeError):
                read[name] = json.loads(value)
    return bool(Draft202012Validator({**schema, "components": DOCUMENT["components"]}).is_valid(read))

"""Every error as a problem document (RFC 9457): the one table of codes, and who writes them."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service import errors
from service.observability.logs import request_id

MEDIA_TYPE = "application/problem+json"
OPENAI_PATH = "/v1/models"
MOST_PROBLEMS = 20
LONGEST_FIELD = 100


@dataclass(frozen=True, slots=True)
class Code:
    """How an error is told over HTTP."""

    status: int
    code: str
    title: str


TABLE: dict[type[errors.PaliServeError], Code] = {
    errors.MalformedBody: Code(400, "invalid_request", "The body cannot be read"),
    errors.InvalidRequest: Code(422, "invalid_request", "The request is not valid"),
    errors.InvalidImage: Code(422, "invalid_image", "The image cannot be read"),
    errors.UnsupportedMediaType: Code(415, "unsupported_media_type", "The content type is not read"),
    errors.ImageTooLarge: Code(413, "image_too_large", "The image is too large"),
    errors.RequestTooLarge: Code(413, "request_too_large", "The request is too large"),
    errors.PromptTooLong: Code(422, "prompt_too_long", "The prompt is too long"),
    errors.ImageUrlForbidden: Code(403, "image_url_forbidden", "Image URLs are not allowed"),
    errors.ImageUrlFailed: Code(422, "image_url_failed", "The image URL gave no image"),
    errors.ModelNotFound: Code(404, "model_not_found", "There is no such model"),
    errors.AdapterNotFound: Code(404, "adapter_not_found", "There is no such adapter"),
    errors.Overloaded: Code(503, "overloaded", "The service is overloaded"),
    errors.Draining: Code(503, "draining", "The service is stopping"),
    errors.ModelNotReady: Code(503, "model_not_ready", "The model is not ready"),
    errors.DeadlineExceeded: Code(504, "deadline_exceeded", "The time ran out"),
    errors.GenerationFailed: Code(500, "internal", "The service failed"),
}
INTERNAL = Code(500, "internal", "The service failed")
INTERNAL_DETAIL = "Something failed inside the service. The log tells more under this request id."
_BY_STATUS = {404: ("not_found", "There is no such path"), 405: ("method_not_allowed", "The path has no such method")}


def of_error(error: errors.PaliServeError, path: str) -> JSONResponse:
    """The answer to an error of ours."""
    code = TABLE[type(error)]
    fields = error.fields if isinstance(error, errors.InvalidRequest) else ()
    wait = error.retry_after if isinstance(error, errors.Overloaded) else 1.0
    headers = {"Retry-After": _jittered(wait)} if code.status == 503 else {}
    return problem(code, error.message, path, fields, headers)


def refusal(error: ValidationError) -> errors.InvalidRequest:
    """The error for fields that do not fit their schema: field by field, and never the input."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    fields = tuple(
        errors.FieldProblem(".".join(str(part) for part in each["loc"])[:LONGEST_FIELD], each["msg"].removeprefix("Value error, "))
        for each in found[:MOST_PROBLEMS]
    )
    detail = "; ".join(f"{each.field}: {each.problem}" for each in fields[:3]) + "."
    return errors.InvalidRequest(detail, fields)


def of_http(error: HTTPException, path: str) -> JSONResponse:
    """The answer to a path or a method that is not there."""
    default = HTTPStatus(error.status_code).phrase
    name, title = _BY_STATUS.get(error.status_code, (default.lower().replace(" ", "_"), default))
    detail = "See /docs for the paths and methods there are."
    return problem(Code(error.status_code, name, title), detail, path, headers=dict(error.headers or {}))


def internal(path: str) -> JSONResponse:
    """The answer to what nobody foresaw."""
    return problem(INTERNAL, INTERNAL_DETAIL, path)


def problem(
    code: Code, detail: str, path: str, fields: Sequence[errors.FieldProblem] = (), headers: dict[str, str] | None = None
) -> JSONResponse:
    """A problem document. Where OpenAI's clients call, it carries their ``error`` object too."""
    body: dict[str, object] = {
        "type": f"urn:paliserve:error:{code.code}",
        "title": code.title,
        "status": code.status,
        "detail": detail,
        "code": code.code,
        "request_id": request_id.get(),
    }
    if fields:
        body["errors"] = [{"field": each.field[:LONGEST_FIELD], "problem": each.problem} for each in fields]
    if path == OPENAI_PATH or path.startswith(f"{OPENAI_PATH}/"):
        kind = "server_error" if code.status >= 500 else "invalid_request_error"
        body["error"] = {"message": detail, "type": kind, "param": None, "code": code.code}
    return JSONResponse(body, code.status, headers, MEDIA_TYPE)


def _jittered(seconds: float) -> str:
    """Whole seconds, at least 1, told a little differently to everyone, so that they do not come back together."""
    return str(max(1, math.ceil(seconds * random.uniform(0.8, 1.2))))  # noqa: S311 (not a secret)

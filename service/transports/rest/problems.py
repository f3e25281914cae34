"""Every error as a problem document (RFC 9457): the one table of codes, and who writes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service import errors
from service.observability.logs import request_id
from service.transports.requests import LONGEST_FIELD
from service.transports.rest.refusals import MisdirectedRequest, SlowRequest, UnsupportedConversation, UnsupportedParameter
from service.transports.visits import identity

MEDIA_TYPE = "application/problem+json"
OPENAI_PATHS = ("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses")
"""Where OpenAI's clients call: there problem documents carry their ``error`` object too."""


INFERENCE_PATHS = "/v2"
"""Where clients of the Open Inference Protocol call: they read ``error`` as a string."""


@dataclass(frozen=True, slots=True)
class Code:
    """How an error is told over HTTP."""

    status: int
    code: str
    title: str


class FieldProblemBody(BaseModel):
    """A field that cannot be accepted."""

    field: str
    problem: str


class ProblemBody(BaseModel):
    """RFC 9457, with a stable `code`. `errors` and `retry_after` are there only where there is something to say."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblemBody] | None = Field(default=None, exclude_if=lambda value: value is None)
    retry_after: int | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Seconds; in streams and batches, where no header can say so."
    )


TABLE: dict[type[errors.PaliServeError], Code] = {
    errors.MalformedBody: Code(400, "invalid_request", "The body cannot be read"),
    SlowRequest: Code(408, "request_timeout", "The request came too slowly"),
    errors.InvalidRequest: Code(422, "invalid_request", "The request is not valid"),
    errors.InvalidImage: Code(422, "invalid_image", "The image cannot be read"),
    errors.UnsupportedMediaType: Code(415, "unsupported_media_type", "The content type is not read"),
    errors.ImageTooLarge: Code(413, "image_too_large", "The image is too large"),
    errors.RequestTooLarge: Code(413, "request_too_large", "The request is too large"),
    errors.PromptTooLong: Code(422, "prompt_too_long", "The prompt is too long"),
    errors.ImageUrlForbidden: Code(403, "image_url_forbidden", "Image URLs are not allowed"),
    errors.ImageUrlFailed: Code(422, "image_url_failed", "The image URL gave no image"),
    errors.Unauthenticated: Code(401, "unauthenticated", "A key is needed"),
    errors.PermissionDenied: Code(403, "permission_denied", "This is not allowed"),
    errors.ModelNotFound: Code(404, "model_not_found", "There is no such model"),
    errors.AdapterNotFound: Code(404, "adapter_not_found", "There is no such adapter"),
    errors.RateLimited: Code(429, "rate_limited", "Too much was asked"),
    errors.Overloaded: Code(503, "overloaded", "The service is overloaded"),
    errors.Draining: Code(503, "draining", "The service is stopping"),
    errors.ModelNotReady: Code(503, "model_not_ready", "The model is not ready"),
    errors.DeadlineExceeded: Code(504, "deadline_exceeded", "The time ran out"),
    errors.GenerationFailed: Code(500, "internal", "The service failed"),
    UnsupportedConversation: Code(400, "unsupported_conversation", "Conversations are not supported"),
    UnsupportedParameter: Code(400, "unsupported_parameter", "A parameter is not supported"),
    MisdirectedRequest: Code(421, "misdirected_request", "The request is for another server"),
}
INTERNAL = Code(500, "internal", "The service failed")
INTERNAL_DETAIL = "Something failed inside the service. The log tells more under this request id."
_NOT_HERE = {
    "/v1/completions": "Completions cannot carry a picture, and PaliGemma answers about pictures: use POST /v1/chat/completions.",
    "/v1/responses": "The responses interface is not offered: use POST /v1/chat/completions.",
}
_BY_STATUS = {
    400: ("invalid_request", "The request cannot be read"),
    404: ("not_found", "There is no such path"),
    405: ("method_not_allowed", "The path has no such method"),
    408: ("request_timeout", "The request came too slowly"),
    503: ("overloaded", "The service is overloaded"),
}


def of_error(error: errors.PaliServeError, path: str, more: Mapping[str, object] | None = None) -> JSONResponse:
    """The answer to an error of ours. ``more`` stands in the document beside what is always there."""
    told = {**document(error, path), **(more or {})}
    wait = told.pop("retry_after", None)
    headers = {} if wait is None else {"Retry-After": str(wait)}
    if told["status"] == 408:
        headers["Connection"] = "close"
    if told["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(told, headers)


def document(error: Exception, path: str = "") -> dict[str, Any]:
    """The problem document of any error. It says itself when to come back: in a stream and in a batch no header can."""
    if not isinstance(error, errors.PaliServeError):
        return _document(INTERNAL, INTERNAL_DETAIL, path)
    code = TABLE[type(error)]
    told = _document(code, error.message, path, error.fields if isinstance(error, errors.InvalidRequest) else ())
    if code.status in (429, 503):
        told["retry_after"] = max(1, math.ceil(errors.retry_after(error) * errors.jitter(error)))
    return told


def of_http(error: HTTPException, path: str) -> JSONResponse:
    """The answer to a path or a method that is not there."""
    detail = _NOT_HERE.get(path, "See /docs for the paths and methods there are.")
    return _response(_document(_by_status(error.status_code), detail, path), dict(error.headers or {}))


def of_connection(status: int, detail: str) -> JSONResponse:
    """The answer, before the connection is closed, to what never became a request."""
    token = request_id.set(identity(""))
    headers = {"Connection": "close", "X-Request-Id": request_id.get()}
    told = _response(_document(_by_status(status), detail, ""), headers | ({"Retry-After": "1"} if status == 503 else {}))
    request_id.reset(token)
    return told


def internal(path: str) -> JSONResponse:
    """The answer to what nobody foresaw."""
    return _response(_document(INTERNAL, INTERNAL_DETAIL, path))


def _by_status(status: int) -> Code:
    default = HTTPStatus(status).phrase
    name, title = _BY_STATUS.get(status, (default.lower().replace(" ", "_"), default))
    return Code(status, name, title)


def _document(code: Code, detail: str, path: str, fields: Sequence[errors.FieldProblem] = ()) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"urn:paliserve:error:{code.code}",
        "title": code.title,
        "status": code.status,
        "detail": detail,
        "code": code.code,
        "request_id": request_id.get(),
    }
    if fields:
        body["errors"] = [{"field": each.field[:LONGEST_FIELD], "problem": each.problem} for each in fields]
    if path == INFERENCE_PATHS or path.startswith(f"{INFERENCE_PATHS}/"):
        body["error"] = detail
    if path in OPENAI_PATHS or path.startswith(f"{OPENAI_PATHS[0]}/"):
        kind = "server_error" if code.status >= 500 else "invalid_request_error"
        body["error"] = {"message": detail, "type": kind, "param": body["errors"][0]["field"] if fields else None, "code": code.code}
    return body


def _response(body: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, body["status"], headers, MEDIA_TYPE)

"""Every error as a status of gRPC: the one table of codes, and the details that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from service import errors
from service.observability.logs import request_id

DOMAIN = "paliserve"
DETAILS = "grpc-status-details-bin"
PUSHBACK = "grpc-retry-pushback-ms"
MOST_VIOLATIONS = 4000
"""Bytes. Clients take 8 kB of trailing metadata, in which details are written in base64."""

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """How an error is told over gRPC."""

    status: grpc.StatusCode
    code: str


TABLE: dict[type[errors.PaliServeError], Code] = {
    errors.MalformedBody: Code(grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
    errors.InvalidRequest: Code(grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
    errors.InvalidImage: Code(grpc.StatusCode.INVALID_ARGUMENT, "invalid_image"),
    errors.UnsupportedMediaType: Code(grpc.StatusCode.INVALID_ARGUMENT, "unsupported_media_type"),
    errors.ImageTooLarge: Code(grpc.StatusCode.INVALID_ARGUMENT, "image_too_large"),
    errors.RequestTooLarge: Code(grpc.StatusCode.INVALID_ARGUMENT, "request_too_large"),
    errors.PromptTooLong: Code(grpc.StatusCode.INVALID_ARGUMENT, "prompt_too_long"),
    errors.ImageUrlForbidden: Code(grpc.StatusCode.PERMISSION_DENIED, "image_url_forbidden"),
    errors.ImageUrlFailed: Code(grpc.StatusCode.INVALID_ARGUMENT, "image_url_failed"),
    errors.Unauthenticated: Code(grpc.StatusCode.UNAUTHENTICATED, "unauthenticated"),
    errors.PermissionDenied: Code(grpc.StatusCode.PERMISSION_DENIED, "permission_denied"),
    errors.ModelNotFound: Code(grpc.StatusCode.NOT_FOUND, "model_not_found"),
    errors.AdapterNotFound: Code(grpc.StatusCode.NOT_FOUND, "adapter_not_found"),
    errors.RateLimited: Code(grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited"),
    errors.Overloaded: Code(grpc.StatusCode.UNAVAILABLE, "overloaded"),
    errors.Draining: Code(grpc.StatusCode.UNAVAILABLE, "draining"),
    errors.ModelNotReady: Code(grpc.StatusCode.UNAVAILABLE, "model_not_ready"),
    errors.DeadlineExceeded: Code(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded"),
    errors.GenerationFailed: Code(grpc.StatusCode.INTERNAL, "internal"),
}
INTERNAL = Code(grpc.StatusCode.INTERNAL, "internal")
INTERNAL_MESSAGE = "Something failed inside the service. The log tells more under this request id."


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in gRPC's words. ``retry_after``: seconds after which it is worth coming back, where it is."""

    status: grpc.StatusCode
    code: str
    message: str
    fields: tuple[errors.FieldProblem, ...] = ()
    retry_after: float | None = None

    @property
    def number(self) -> int:
        """The status by its number."""
        number: int = self.status.value[0]
        return number

    def trailers(self) -> Metadata:
        """Trailing metadata: google.rpc.Status, and for a server that is overloaded when its client may try again by itself."""
        reason = error_details_pb2.ErrorInfo(reason=self.code.upper(), domain=DOMAIN, metadata={"request_id": request_id.get()})
        details: list[Message] = [reason]
        if self.fields:
            details.append(_bad_request(self.fields))
        if self.retry_after is not None:
            details.append(error_details_pb2.RetryInfo(retry_delay=seconds(self.retry_after)))
        status = status_pb2.Status(code=self.number, message=self.message, details=[_packed(each) for each in details])
        trailers: Metadata = ((DETAILS, status.SerializeToString()),)
        if self.retry_after is None or self.code != "overloaded":
            return trailers
        return (*trailers, (PUSHBACK, str(int(1000 * self.retry_after))))


def failure_of(error: Exception) -> Failure:
    """What to tell of any error; nothing of one that nobody foresaw."""
    if not isinstance(error, errors.PaliServeError):
        return Failure(INTERNAL.status, INTERNAL.code, INTERNAL_MESSAGE)
    # An error of one transport's own is an InvalidRequest to the others.
    code = TABLE[next(kind for kind in type(error).__mro__ if kind in TABLE)]
    fields = error.fields if isinstance(error, errors.InvalidRequest) else ()
    retry_after = None
    if code.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        retry_after = errors.retry_after(error) * errors.jitter(error)
    return Failure(code.status, code.code, error.message, fields, retry_after)


def seconds(value: float) -> duration_pb2.Duration:
    """Seconds as protobuf has them."""
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(int(1000 * value))
    return duration


def _bad_request(fields: Sequence[errors.FieldProblem]) -> error_details_pb2.BadRequest:
    told = error_details_pb2.BadRequest()
    for each in fields:
        told.field_violations.add(field=each.field, description=each.problem)
        if told.ByteSize() > MOST_VIOLATIONS:
            del told.field_violations[-1]
            break
    return told


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed

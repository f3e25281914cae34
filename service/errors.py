"""What can go wrong, in words every layer shares.

An error is named for what happened and its message says what was wrong and what would be right. It carries no status code: each transport
keeps one table from these classes to its own codes.
"""

import random
from dataclasses import dataclass


class OperatorError(Exception):
    """The service cannot be run as it was asked; the message is the one line its operator sees: what is wrong and what would be right."""


class PaliServeError(Exception):
    """The root of all errors that a caller may be told about."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field of a request that cannot be accepted. ``field`` is a dotted path such as ``objects.0``."""

    field: str
    problem: str


class MalformedBody(PaliServeError):
    """The body could not be read at all: not JSON, not multipart, empty, or broken off."""


class InvalidRequest(PaliServeError):
    """The body was read, but some of its fields cannot be accepted."""

    def __init__(self, message: str, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class InvalidImage(PaliServeError):
    """The bytes are not an image that can be decoded completely."""


class UnsupportedMediaType(PaliServeError):
    """The request's content type is none that is read."""


class ImageTooLarge(PaliServeError):
    """The image has too many bytes or too many pixels."""


class RequestTooLarge(PaliServeError):
    """The request body as a whole has too many bytes."""


class PromptTooLong(PaliServeError):
    """The prefix has more characters or tokens than the instance takes."""


class ImageUrlForbidden(PaliServeError):
    """The image was given as a URL, and fetching this one, or any, is not allowed."""


class ImageUrlFailed(PaliServeError):
    """The image's URL is none, or did not give an image."""


class Unauthenticated(PaliServeError):
    """The caller did not say who it is, or not truly."""


class PermissionDenied(PaliServeError):
    """The caller may not do this."""


class RateLimited(PaliServeError):
    """The caller asked for more than it may in a time, or at once. Try again after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelNotFound(PaliServeError):
    """No instance with this name or resolution is served."""


class AdapterNotFound(PaliServeError):
    """No adapter with this name is loaded on the instance."""


class Overloaded(PaliServeError):
    """The queue is full, or the deadline could not be met. Try again after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(PaliServeError):
    """The process is stopping: it finishes what it accepted and takes nothing new."""


class ModelNotReady(PaliServeError):
    """The instance exists but is not warm. Try again after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(PaliServeError):
    """The request's time ran out before its answer was complete."""


class GenerationFailed(PaliServeError):
    """The model failed on this request. The cause is in the log, never in the message."""


def retry_after(error: PaliServeError) -> float:
    """Seconds after which it is worth coming back after an error that passes."""
    return error.retry_after if isinstance(error, RateLimited | Overloaded | ModelNotReady) else 1.0


def jitter(error: PaliServeError) -> float:
    """A factor for that time, a little different for everyone, so that they do not come back together.

    A quota says exactly when: who comes earlier is refused again.
    """
    return random.uniform(1.0 if isinstance(error, RateLimited) else 0.8, 1.2)  # noqa: S311 (not a secret)

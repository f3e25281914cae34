"""A request of gRPC on its way to its task."""

from collections.abc import Awaitable
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from service.errors import FieldProblem, InvalidRequest
from service.tasks.asks import Options
from service.tasks.results import TaskResult
from service.tasks.streaming import EventListener
from service.tasks.tasks import Tasks
from service.transports.grpc.messages import fields_of
from service.transports.offers import OFFERS
from service.transports.requests import TaskRequest

MOST_IMAGES = 16
"""Of a request; an instance takes one, unless its checkpoint takes several."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request, checked."""

    image: bytes
    fields: TaskRequest
    options: Options

    def ask(self, tasks: Tasks, listener: EventListener | None = None) -> Awaitable[TaskResult]:
        """Put it to the tasks. ``listener`` is told of the answer while it is being written."""
        return self.fields.ask(tasks, self.image, replace(self.options, listener=listener))


def read(task: str, request: Message, time_remaining: float | None, image: bytes = b"") -> Question:
    """Check a request. ``image`` is that of a request without one; ``time_remaining``: seconds until the call's deadline.

    Errors: InvalidRequest.
    """
    fields = fields_of(request)
    single, images = fields.pop("image", b""), fields.pop("images", [])
    if single and images:
        raise refused("image", "image or images is needed, not both")
    if len(images) > MOST_IMAGES:
        raise refused("images", f"at most {MOST_IMAGES} pictures are taken, got {len(images)}")
    first, *further = images or [single or image]
    if not all((first, *further)):
        raise refused("images" if images else "image", "the picture is needed here, as the bytes of its file")
    checked = OFFERS[task].read(fields)
    return Question(first, checked, replace(checked.options(time_remaining), further=tuple(further)))


def refused(field: str, problem: str) -> InvalidRequest:
    """The error for one field."""
    return InvalidRequest(f"{field}: {problem}.", (FieldProblem(field, problem),))

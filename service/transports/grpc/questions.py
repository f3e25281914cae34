"""A request of gRPC on its way to its task."""

from collections.abc import Awaitable
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from service.errors import FieldProblem, InvalidRequest
from service.tasks.results import TaskResult
from service.tasks.streaming import EventListener
from service.tasks.tasks import Options, Tasks
from service.transports.grpc.messages import fields_of
from service.transports.offers import OFFERS
from service.transports.requests import TaskRequest


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
    image = fields.pop("image", image)
    if not image:
        raise refused("image", "the picture is needed here, as the bytes of its file")
    checked = OFFERS[task].read(fields)
    return Question(image, checked, checked.options(time_remaining))


def refused(field: str, problem: str) -> InvalidRequest:
    """The error for one field."""
    return InvalidRequest(f"{field}: {problem}.", (FieldProblem(field, problem),))

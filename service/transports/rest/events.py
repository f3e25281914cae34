"""The events of a task's stream, as JSON."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from service.observability.logs import request_id
from service.tasks.results import TaskResult
from service.tasks.streaming import DetectionEvent, Event, ResultEvent, SegmentEvent, TokenEvent
from service.transports.responses import DetectionBody, SegmentBody, detection_body, segment_body


class TokenEventBody(BaseModel):
    """`event: token`: text that became certain with the token at `index`. All such texts joined are the answer's `text`."""

    text: str
    index: int


class DetectionEventBody(DetectionBody):
    """`event: detection`: the response's detection at `index`, as soon as it is complete."""

    index: int


class SegmentEventBody(SegmentBody):
    """`event: segment`: the response's segment at `index`, as soon as it is complete and its mask is painted."""

    index: int


class TaskEvents:
    """The dialect of the task routes. ``write_result`` makes a task's response."""

    def __init__(self, write_result: Callable[[TaskResult, str], BaseModel]) -> None:
        self._write_result = write_result

    def write(self, event: Event) -> bytes:
        """See ``Dialect``."""
        if isinstance(event, TokenEvent):
            return _event("token", TokenEventBody(text=event.text, index=event.index))
        if isinstance(event, DetectionEvent):
            return _event("detection", DetectionEventBody(**dict(detection_body(event.detection)), index=event.index))
        if isinstance(event, SegmentEvent):
            return _event("segment", SegmentEventBody(**dict(segment_body(event.segment)), index=event.index))
        if isinstance(event, ResultEvent):
            return _event("result", self._write_result(event.result, request_id.get()))
        return b""

    def write_error(self, document: dict[str, Any]) -> bytes:
        """See ``Dialect``."""
        return b"event: error\n" + data(document)


def data(content: BaseModel | dict[str, Any]) -> bytes:
    """The data of an event; JSON has no line breaks of its own, so it takes one line."""
    text = content.model_dump_json().encode() if isinstance(content, BaseModel) else to_json(content)
    return b"data: " + text + b"\n\n"


def _event(name: str, content: BaseModel) -> bytes:
    return b"event: " + name.encode() + b"\n" + data(content)

"""The tasks as the transports offer them: for each its request, its response, and how one is written from the other's result."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from service.tasks.results import TaskResult
from service.transports import requests as asked
from service.transports import responses as told


@dataclass(frozen=True, slots=True)
class Offer:
    """One task. ``write`` takes a result and the id of its request, and gives a ``response``."""

    request: type[asked.TaskRequest]
    response: type[told.TaskResponse]
    write: Callable[[TaskResult, str], BaseModel]

    def read(self, fields: object, from_form: bool = False) -> asked.TaskRequest:
        """Check the fields. Errors: InvalidRequest."""
        try:
            # A form's values are text; JSON's types mean what they say.
            return self.request.model_validate(fields, strict=None if from_form else True)
        except ValidationError as error:
            raise asked.refusal(error) from None


OFFERS = {
    "caption": Offer(asked.CaptionRequest, told.CaptionResponse, told.caption_response),
    "answer": Offer(asked.AnswerRequest, told.AnswerResponse, told.answer_response),
    "detect": Offer(asked.DetectRequest, told.DetectResponse, told.detect_response),
    "segment": Offer(asked.SegmentRequest, told.SegmentResponse, told.segment_response),
    "read": Offer(asked.ReadRequest, told.ReadResponse, told.read_response),
    "caption-region": Offer(asked.CaptionRegionRequest, told.CaptionResponse, told.caption_response),
    "generate": Offer(asked.GenerateRequest, told.GenerateResponse, told.generate_response),
}

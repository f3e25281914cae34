"""From tensors to questions, asked together, and back."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import FieldProblem, InvalidRequest, ModelNotFound, PaliServeError
from service.observability.logs import request_id
from service.tasks.results import TaskResult
from service.tasks.tasks import Tasks
from service.transports.inference.tensors import Tensor, refused
from service.transports.offers import OFFERS
from service.transports.ports import Service
from service.transports.requests import GenerateRequest
from service.transports.responses import generate_response
from service.transports.visits import Visit

VERSION = "1"
INPUTS = ("image", "prompt")
OUTPUTS = ("text", "result")
PARAMETERS = tuple(name for name in GenerateRequest.model_fields if name not in ("model", "resolution", "stream", "prompt"))
"""Of a request: the fields of ``generate`` that neither the address nor the inputs give."""


@dataclass(frozen=True, slots=True)
class Question:
    """n prompts about one picture, or about n."""

    prompts: Tensor
    images: Tensor
    fields: tuple[GenerateRequest, ...]
    time_remaining: float | None


def check_version(version: str) -> None:
    """Errors: ModelNotFound."""
    if version not in ("", VERSION):
        raise ModelNotFound(f"There is no such version; there is {VERSION}.")


def check_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """The outputs that are wanted, in that order; none named: all. Errors: InvalidRequest."""
    for name in names:
        if name not in OUTPUTS:
            problem = f"there is no such output; there are {' and '.join(OUTPUTS)}"
            raise InvalidRequest(f"outputs: {problem}.", (FieldProblem("outputs", problem),))
    return tuple(dict.fromkeys(names)) or OUTPUTS


def read(model: str, tensors: Sequence[Tensor], parameters: Mapping[str, Any], time_remaining: float | None = None) -> Question:
    """Check a request to the instance ``model``. ``time_remaining``: seconds until the caller's deadline. Errors: InvalidRequest."""
    found = {tensor.name: tensor for tensor in tensors}
    for name in INPUTS:
        if name not in found:
            raise refused(name, "this input is needed")
    if len(found) < len(tensors) or len(found) > len(INPUTS):
        raise InvalidRequest("inputs: image and prompt are needed, each once, and nothing else.")
    images, prompts = found["image"], found["prompt"]
    if len(images.elements) not in (1, len(prompts.elements)):
        raise refused("image", f"{len(prompts.elements)} prompts need as many pictures, or one; there are {len(images.elements)}")
    if any(not element for element in images.elements):
        raise refused("image", "a picture is empty: the bytes of its file are needed")
    fields = tuple(_checked(model, element, number, parameters) for number, element in enumerate(prompts.elements))
    return Question(prompts, images, fields, time_remaining)


def _checked(model: str, prompt: bytes, number: int, parameters: Mapping[str, Any]) -> GenerateRequest:
    try:
        text = prompt.decode()
    except UnicodeDecodeError:
        raise refused("prompt", f"element {number} is not UTF-8") from None
    for name in parameters:
        if name not in PARAMETERS:
            problem = f"there is no such parameter; there are {', '.join(PARAMETERS)}"
            raise InvalidRequest(f"parameters: {problem}.", (FieldProblem(f"parameters.{name}"[:100], problem),))
    # Some clients can send numbers as text only.
    checked = OFFERS["generate"].read({**parameters, "model": model, "prompt": text}, from_form=True)
    if not isinstance(checked, GenerateRequest):
        raise TypeError("generate is read as something else")
    return checked


async def answer(service: Service, question: Question, visit: Visit) -> dict[str, tuple[bytes, ...]]:
    """The elements of each output.

    What is wrong with one prompt is wrong with all: the others are given up. Errors: those of the task.
    """
    count = len(question.fields)
    visit.parts = [Visit("generate", "cancelled") for _ in range(count)]
    images = question.images.elements * (count if len(question.images.elements) == 1 else 1)
    try:
        async with asyncio.TaskGroup() as group:
            parts = enumerate(zip(question.fields, images, visit.parts, strict=True))
            asked = [group.create_task(_one(service.tasks, question, number, *part)) for number, part in parts]
    except ExceptionGroup as failed:
        # It is counted as one, with what was wrong.
        visit.parts = []
        raise failed.exceptions[0] from None
    results = [task.result() for task in asked]
    written = (generate_response(result, identity).model_dump_json().encode() for result, identity in results)
    return {"text": tuple(result.answer.text.encode() for result, _ in results), "result": tuple(written)}


async def _one(
    tasks: Tasks, question: Question, number: int, fields: GenerateRequest, image: bytes, visit: Visit
) -> tuple[TaskResult, str]:
    several, began = len(question.fields) > 1, time.monotonic()
    if several:
        # A task has a context of its own: this is the part's id, in its result and in the log.
        request_id.set(f"{request_id.get()}-{number}")
    try:
        result = await fields.ask(tasks, image, fields.options(question.time_remaining))
    except PaliServeError as error:
        if several:
            error.message = f"Prompt {number}: {error.message}"
        raise
    finally:
        visit.seconds = time.monotonic() - began
    visit.code, visit.answer = "ok", result.answer
    return result, request_id.get()

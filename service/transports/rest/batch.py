"""``POST /v1/batch``: several requests in one, answered together, each by itself."""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import FieldProblem, InvalidRequest, PaliServeError
from service.observability.logs import request_id
from service.transports import responses as told
from service.transports.budget import Hold
from service.transports.offers import OFFERS
from service.transports.ports import Service
from service.transports.requests import refusal
from service.transports.rest import problems
from service.transports.rest.bodies import decoded_image, held_by, json_images, read_object
from service.transports.rest.problems import ProblemBody
from service.transports.rest.visits import visit_of, while_connected
from service.transports.visits import Visit

logger = logging.getLogger(__name__)

MOST_REQUESTS = 64
EXAMPLE = '{"image": "<base64>", "requests": [{"task": "caption"}, …]}'


class BatchRequest(BaseModel):
    """Several requests; `image` is that of each that has none."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = None
    # Not checked here: what is wrong with one request is that one's own error.
    requests: Annotated[list[Any], Field(min_length=1, max_length=MOST_REQUESTS)]


class BatchAnswer(BaseModel):
    """A request that was answered."""

    status: Literal[200] = 200
    response: (
        told.GenerateResponse | told.SegmentResponse | told.DetectResponse | told.CaptionResponse | told.AnswerResponse | told.ReadResponse
    )


class BatchError(BaseModel):
    """A request that failed: the problem document that it would have been answered with by itself, and its status."""

    status: Annotated[int, Field(ge=400, le=599)]
    error: ProblemBody


class BatchResponse(BaseModel):
    """One result for each request, in order."""

    results: list[BatchAnswer | BatchError]


def batch_routes(service: Service, max_image_bytes: int) -> APIRouter:
    """The batch of ``service``'s tasks."""
    router = APIRouter(prefix="/v1", tags=["tasks"])

    @router.post("/batch", name="batch", response_model=BatchResponse)
    async def batch(request: Request) -> Response:
        """Ask up to 64 things at once. They run together; each is answered, or fails, by itself. A picture they share is encoded once."""
        visit = visit_of(request)
        visit.task = "batch"
        service.ready()
        asked = _checked(await read_object(request, max_image_bytes, EXAMPLE))
        images = _Images(service, max_image_bytes, asked.image, held_by(request))
        parts = [Visit("batch", "cancelled") for _ in asked.requests]
        visit.parts = parts
        pairs = enumerate(zip(parts, asked.requests, strict=True))
        each_one = (_part(service, images, number, *pair) for number, pair in pairs)
        results = await while_connected(request, asyncio.gather(*each_one))
        return Response(BatchResponse.model_construct(results=results).model_dump_json(), media_type="application/json")

    return router


def _checked(fields: dict[str, Any]) -> BatchRequest:
    if "stream" in fields:
        raise _refused("stream", "a batch answers when all of it is done: leave this out, or send the requests one by one")
    try:
        return BatchRequest.model_validate(fields, strict=True)
    except ValidationError as error:
        raise refusal(error) from None


class _Images:
    """The pictures of one batch. Equal strings give the same object, by which the engine knows that they are one picture."""

    def __init__(self, service: Service, max_image_bytes: int, shared: str | None, held: Hold) -> None:
        self._service = service
        self._max_image_bytes = max_image_bytes
        self._shared = shared
        self._held = held
        self._decoded: dict[str, asyncio.Task[bytes]] = {}

    async def of(self, fields: dict[str, Any]) -> list[bytes]:
        """Take a request's pictures out of its fields, or the batch's. Errors: those of ``json_images`` and ``decoded_image``."""
        return await json_images(fields, self._decode, self._shared)

    async def _decode(self, image: str) -> bytes:
        if image not in self._decoded:
            decoding = decoded_image(image, self._max_image_bytes, self._service.fetch_image, self._held)
            self._decoded[image] = asyncio.create_task(decoding)
        # Not shielded: requests of one batch are cancelled together.
        return await self._decoded[image]


async def _part(service: Service, images: _Images, number: int, visit: Visit, fields: Any) -> BatchAnswer | BatchError:
    # A task has a context of its own: this is the part's id, in its response and in the log.
    request_id.set(f"{request_id.get()}-{number}")
    began = time.monotonic()
    try:
        answer = await _answered(service, images, visit, fields)
        visit.code = "ok"
        return answer
    except Exception as error:
        if not isinstance(error, PaliServeError):
            logger.exception("unforeseen")
        document = problems.document(error)
        visit.code = document["code"]
        return BatchError(status=document["status"], error=ProblemBody(**document))
    finally:
        visit.seconds = time.monotonic() - began


async def _answered(service: Service, images: _Images, visit: Visit, fields: Any) -> BatchAnswer:
    if not isinstance(fields, dict):
        raise InvalidRequest('The request is not an object: {"task": "caption", …} is needed.')
    task = fields.pop("task", None)
    offer = OFFERS.get(task) if isinstance(task, str) else None
    if offer is None or not isinstance(task, str):
        raise _refused("task", f"one of {', '.join(OFFERS)} is needed")
    visit.task = task
    image, *further = await images.of(fields)
    asked = offer.read(fields)
    if asked.stream:
        raise _refused("stream", "a batch answers when all of it is done: leave this out, or send the request by itself")
    result = await asked.ask(service.tasks, image, replace(asked.options(), further=tuple(further)))
    visit.answer = result.answer
    return BatchAnswer.model_construct(status=200, response=offer.write(result, request_id.get()))


def _refused(field: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {problem}.", (FieldProblem(field, problem),))

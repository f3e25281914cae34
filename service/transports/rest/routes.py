"""``POST /v1/…``: one route for each task."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError

from service.observability.logs import request_id
from service.tasks.results import TaskResult
from service.transports.rest import problems
from service.transports.rest import requests as asked
from service.transports.rest import responses as told
from service.transports.rest.bodies import read_body
from service.transports.rest.ports import Service
from service.transports.rest.visits import visit_of, while_connected

A = TypeVar("A", bound=asked.TaskRequest)


def task_routes(service: Service, max_image_bytes: int) -> APIRouter:
    """All tasks of ``service``."""
    router = APIRouter(prefix="/v1", tags=["tasks"])

    async def run(
        request: Request, schema: type[A], call: Callable[[A, bytes], Awaitable[TaskResult]], write: Callable[[TaskResult, str], BaseModel]
    ) -> Response:
        visit = visit_of(request)
        visit.task = request.scope["route"].name
        service.ready()
        body = await read_body(request, max_image_bytes, service.fetch_image)
        try:
            # A form's values are text; JSON's types mean what they say.
            fields = schema.model_validate(body.fields, strict=None if body.from_form else True)
        except ValidationError as error:
            raise problems.refusal(error) from None
        result = await while_connected(request, call(fields, body.image))
        visit.answer = result.answer
        return Response(write(result, request_id.get()).model_dump_json(), media_type="application/json")

    @router.post("/caption", name="caption", response_model=told.CaptionResponse)
    async def caption(request: Request) -> Response:
        """Describe the picture."""
        return await run(
            request,
            asked.CaptionRequest,
            lambda it, image: service.tasks.caption(image, it.options(), it.language, it.style),
            told.caption_response,
        )

    @router.post("/answer", name="answer", response_model=told.AnswerResponse)
    async def answer(request: Request) -> Response:
        """Answer a question about the picture."""
        return await run(
            request,
            asked.AnswerRequest,
            lambda it, image: service.tasks.answer(image, it.options(), it.question, it.language),
            told.answer_response,
        )

    @router.post("/detect", name="detect", response_model=told.DetectResponse)
    async def detect(request: Request) -> Response:
        """Find the named objects."""
        return await run(
            request, asked.DetectRequest, lambda it, image: service.tasks.detect(image, it.options(), it.objects), told.detect_response
        )

    @router.post("/segment", name="segment", response_model=told.SegmentResponse)
    async def segment(request: Request) -> Response:
        """Find and outline the named objects."""
        return await run(
            request,
            asked.SegmentRequest,
            lambda it, image: service.tasks.segment(image, it.options(), it.objects, it.mask_format),
            told.segment_response,
        )

    @router.post("/read", name="read", response_model=told.ReadResponse)
    async def read(request: Request) -> Response:
        """Read the text in the picture."""
        return await run(request, asked.ReadRequest, lambda it, image: service.tasks.read(image, it.options()), told.read_response)

    @router.post("/caption-region", name="caption-region", response_model=told.CaptionResponse)
    async def caption_region(request: Request) -> Response:
        """Describe what lies in a box."""
        return await run(
            request,
            asked.CaptionRegionRequest,
            lambda it, image: service.tasks.caption_region(image, it.options(), it.region()),
            told.caption_response,
        )

    @router.post("/generate", name="generate", response_model=told.GenerateResponse)
    async def generate(request: Request) -> Response:
        """Continue any prefix, as a fine-tuned checkpoint wants it."""
        return await run(
            request, asked.GenerateRequest, lambda it, image: service.tasks.generate(image, it.options(), it.prompt), told.generate_response
        )

    return router

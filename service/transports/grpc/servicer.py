"""``paligemma.v1.PaliGemmaService`` over the tasks."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from service.observability.logs import request_id
from service.tasks.results import TaskResult
from service.tasks.streaming import DetectionEvent, Event, EventListener, ResultEvent, SegmentEvent, TokenEvent, stream
from service.transports.grpc import messages
from service.transports.grpc.batch import Batch
from service.transports.grpc.calls import Context, current_visit
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from service.transports.grpc.questions import read
from service.transports.ports import Service
from service.transports.visits import VisitBook

NAME = pb.DESCRIPTOR.services_by_name["PaliGemmaService"].full_name


class PaliGemmaServicer(paligemma_pb2_grpc.PaliGemmaServiceServicer):
    """Each call reads, awaits one task and writes. See the protocol's own comments for what they do."""

    # gRPC's names.
    # ruff: noqa: N802

    def __init__(self, service: Service, book: VisitBook) -> None:
        self._service = service
        self._book = book

    async def Caption(self, request: pb.CaptionRequest, context: Context) -> Message:
        return await self._answer("caption", request, context)

    async def Answer(self, request: pb.AnswerRequest, context: Context) -> Message:
        return await self._answer("answer", request, context)

    async def Detect(self, request: pb.DetectRequest, context: Context) -> Message:
        return await self._answer("detect", request, context)

    async def Segment(self, request: pb.SegmentRequest, context: Context) -> Message:
        return await self._answer("segment", request, context)

    async def Read(self, request: pb.ReadRequest, context: Context) -> Message:
        return await self._answer("read", request, context)

    async def CaptionRegion(self, request: pb.CaptionRegionRequest, context: Context) -> Message:
        return await self._answer("caption-region", request, context)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> Message:
        return await self._answer("generate", request, context)

    async def StreamGenerate(self, request: pb.StreamGenerateRequest, context: Any) -> AsyncGenerator[pb.StreamGenerateResponse, None]:
        visit = current_visit()
        visit.task = "generate"
        self._service.ready()
        with self._service.room():
            question = read("generate", request, context.time_remaining())

            def ask(listener: EventListener) -> Awaitable[TaskResult]:
                return question.ask(self._service.tasks, listener)

            async with aclosing(stream(ask)) as events:
                async for event in events:
                    if isinstance(event, ResultEvent):
                        visit.answer = event.result.answer
                    yield _written(event)

    async def Batch(self, request: AsyncIterator[pb.BatchRequest], context: Any) -> AsyncGenerator[pb.BatchResponse, None]:
        self._service.ready()
        async with aclosing(Batch(self._service, self._book, context).answers(request)) as answers:
            async for answer in answers:
                yield answer

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=map(messages.model, self._service.models()))

    async def _answer(self, task: str, request: Message, context: Context) -> Message:
        visit = current_visit()
        visit.task = task
        self._service.ready()
        with self._service.room():
            result = await read(task, request, context.time_remaining()).ask(self._service.tasks)
        visit.answer = result.answer
        return messages.WRITE[task](result, request_id.get())


def _written(event: Event) -> pb.StreamGenerateResponse:
    if isinstance(event, TokenEvent):
        return pb.StreamGenerateResponse(token=pb.TokenEvent(text=event.text, index=event.index))
    if isinstance(event, DetectionEvent):
        return pb.StreamGenerateResponse(detection=pb.DetectionEvent(detection=messages.detection(event.detection), index=event.index))
    if isinstance(event, SegmentEvent):
        return pb.StreamGenerateResponse(segment=pb.SegmentEvent(segment=messages.segment(event.segment), index=event.index))
    if isinstance(event, ResultEvent):
        return pb.StreamGenerateResponse(result=messages.generate_response(event.result, request_id.get()))
    raise TypeError(f"{type(event).__name__} cannot be sent")

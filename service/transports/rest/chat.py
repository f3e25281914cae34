"""``POST /v1/chat/completions``: ``generate`` for OpenAI's clients."""

from collections.abc import Awaitable
from dataclasses import replace

from fastapi import APIRouter, Request, Response

from service.errors import FieldProblem, InvalidRequest
from service.tasks.results import TaskResult
from service.tasks.streaming import EventListener, stream
from service.transports.budget import Hold
from service.transports.ports import Service
from service.transports.rest.bodies import decoded_image, held_by, read_object
from service.transports.rest.chat_requests import ChatRequest, read_chat
from service.transports.rest.chat_responses import ChatCompletion, ChatEvents, completion
from service.transports.rest.event_stream import HEARTBEAT, EventStream
from service.transports.rest.visits import visit_of, while_connected

EXAMPLE = '{"messages": [{"role": "user", "content": [{"type": "text", …}, {"type": "image_url", …}]}]}'


def chat_routes(service: Service, max_image_bytes: int) -> APIRouter:
    """Chat over ``service``'s tasks."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    @router.post("/chat/completions", name="chat", response_model=ChatCompletion)
    async def chat(request: Request) -> Response:
        """Continue the text of one user message about the picture in it, as OpenAI's clients ask for it.

        The text is a prefix, as `/v1/generate` takes it. Boxes and masks stand beside the text, in `message.paligemma`.
        """
        visit = visit_of(request)
        visit.task = "chat"
        service.ready()
        asked = read_chat(await read_object(request, max_image_bytes, EXAMPLE))
        prefix, options = asked.prefix(), asked.options()
        image = await _image(service, asked, max_image_bytes, held_by(request))
        held_by(request).keep(len(image))
        if asked.stream:

            def ask(listener: EventListener) -> Awaitable[TaskResult]:
                return service.tasks.generate(image, replace(options, listener=listener), prefix, asked.mask_format)

            include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
            return EventStream(stream(ask, HEARTBEAT), ChatEvents(options.pieces, include_usage))
        result = await while_connected(request, service.tasks.generate(image, options, prefix, asked.mask_format))
        visit.answer = result.answer
        return Response(completion(result, options.pieces).model_dump_json(), media_type="application/json")

    return router


async def _image(service: Service, asked: ChatRequest, max_image_bytes: int, held: Hold) -> bytes:
    text = asked.image()
    try:
        return await decoded_image(text, max_image_bytes, service.fetch_image, held)
    except InvalidRequest as error:
        problem = error.fields[0].problem
        raise InvalidRequest(f"The image_url is no usable picture: {problem}.", (FieldProblem("messages.0.content", problem),)) from None

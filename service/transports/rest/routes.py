"""``POST /v1/…``: one route for each task, which answers at once or as a stream."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fastapi import APIRouter, Request, Response

from service.observability.logs import request_id
from service.tasks.results import TaskResult
from service.tasks.streaming import EventListener, stream
from service.transports.offers import OFFERS, Offer
from service.transports.ports import Service
from service.transports.rest.bodies import read_body
from service.transports.rest.event_stream import HEARTBEAT, EventStream
from service.transports.rest.events import TaskEvents
from service.transports.rest.visits import visit_of, while_connected


def task_routes(service: Service, max_image_bytes: int) -> APIRouter:
    """All tasks of ``service``."""
    router = APIRouter(prefix="/v1", tags=["tasks"])
    for name, offer in OFFERS.items():
        router.add_api_route(
            f"/{name}", _answering(service, max_image_bytes, name, offer), methods=["POST"], name=name,
            response_model=offer.response, description=offer.request.__doc__,
        )  # fmt: skip
    return router


def _answering(service: Service, max_image_bytes: int, name: str, offer: Offer) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        visit = visit_of(request)
        visit.task = name
        service.ready()
        body = await read_body(request, max_image_bytes, service.fetch_image)
        fields = offer.read(body.fields, body.from_form)
        options = replace(fields.options(), further=body.further)
        if fields.stream:

            def ask(listener: EventListener) -> Awaitable[TaskResult]:
                return fields.ask(service.tasks, body.image, replace(options, listener=listener))

            return EventStream(stream(ask, HEARTBEAT), TaskEvents(offer.write))
        result = await while_connected(request, fields.ask(service.tasks, body.image, options))
        visit.answer = result.answer
        return Response(offer.write(result, request_id.get()).model_dump_json(), media_type="application/json")

    return answer

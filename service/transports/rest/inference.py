"""``/v2``: the Open Inference Protocol, as clients of KServe and Triton speak it."""

from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from service.errors import ModelNotReady, PaliServeError
from service.transports.inference.metadata import EXTENSIONS, SERVER, ModelMetadata
from service.transports.inference.questions import answer, check_outputs, check_version, read
from service.transports.ports import Service
from service.transports.rest import problems
from service.transports.rest.inference_bodies import InferResponse, read_infer, write_infer
from service.transports.rest.visits import visit_of, while_connected


class Live(BaseModel):
    """Whether the process makes progress."""

    live: Literal[True] = True


class Ready(BaseModel):
    """Whether requests are taken."""

    ready: Literal[True] = True


class ModelReady(Ready):
    """Whether a model takes requests."""

    name: str


class ServerBody(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class TensorBody(BaseModel):
    """A tensor of a model; -1 stands for any number."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    datatype: str
    shape: list[int]


class MetadataBody(BaseModel):
    """What a model takes and gives."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorBody]
    outputs: list[TensorBody]


async def known_version(model_version: str) -> None:
    """Errors: ModelNotFound."""
    check_version(model_version)


def inference_routes(service: Service, max_image_bytes: int, version: str) -> APIRouter:
    """Inference over ``service``'s tasks. ``version`` is the program's."""
    router = APIRouter(prefix="/v2", tags=["inference"])

    @router.get("", response_model=ServerBody)
    async def server() -> ServerBody:
        """What the server is."""
        return ServerBody(name=SERVER, version=version, extensions=list(EXTENSIONS))

    @router.get("/health/live", response_model=Live)
    async def live(request: Request) -> Response:
        """Whether the process makes progress."""
        if service.alive():
            return JSONResponse({"live": True})
        return _not(request, "live", ModelNotReady("The device has not come back from its step: this process must be started anew."))

    @router.get("/health/ready", response_model=Ready)
    async def ready(request: Request) -> Response:
        """Whether requests are taken."""
        return _readiness(service, request, {})

    async def metadata(model: str) -> MetadataBody:
        """What a model takes and gives."""
        return MetadataBody.model_validate(ModelMetadata(service.model(model).name))

    async def model_ready(request: Request, model: str) -> Response:
        """Whether a model takes requests."""
        found = service.model(model)
        if found.state != "warm":
            return _not(request, "ready", ModelNotReady(f"{found.name} is {found.state}."))
        return _readiness(service, request, {"name": found.name})

    infer = _infer(service, max_image_bytes)
    for path, dependencies in (("/models/{model}", []), ("/models/{model}/versions/{model_version}", [Depends(known_version)])):
        router.add_api_route(path, metadata, methods=["GET"], response_model=MetadataBody, dependencies=dependencies)
        router.add_api_route(f"{path}/ready", model_ready, methods=["GET"], response_model=ModelReady, dependencies=dependencies)
        router.add_api_route(f"{path}/infer", infer, methods=["POST"], response_model=InferResponse, dependencies=dependencies)
    return router


def _infer(service: Service, max_image_bytes: int) -> Callable[[Request, str], Awaitable[Response]]:
    async def infer(request: Request, model: str) -> Response:
        """Answer n prompts about one picture, or about n. They run together; what is wrong with one of them is wrong with the request.

        Inputs `image` and `prompt`, outputs `text`, what the model wrote, and `result`, the JSON that `/v1/generate` answers with.
        """
        visit = visit_of(request)
        visit.task = "infer"
        service.ready()
        name = service.model(model).name
        asked = await read_infer(request, max_image_bytes, service.fetch_image)
        wanted = check_outputs([each.name for each in asked.body.outputs])
        question = read(name, asked.tensors, asked.parameters)
        outputs = await while_connected(request, answer(service, question, visit))
        return write_infer(asked, name, {each: outputs[each] for each in wanted}, question.prompts.shape)

    return infer


def _readiness(service: Service, request: Request, told: dict[str, str]) -> Response:
    try:
        service.ready()
    except PaliServeError as error:
        return _not(request, "ready", error)
    return JSONResponse({**told, "ready": True})


def _not(request: Request, what: str, error: PaliServeError) -> Response:
    visit_of(request).code = problems.TABLE[type(error)].code
    return problems.of_error(error, request.scope["path"], {what: False})

"""``GET /v1/models``, in OpenAI's list form, and how administrators change what is served."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.access.gate import Gate
from service.errors import FieldProblem, InvalidRequest
from service.instances.description import ModelDescription
from service.transports.ports import Service
from service.transports.requests import refusal
from service.transports.rest.bodies import read_object
from service.transports.rest.guard import administrators
from service.transports.rest.visits import while_connected

ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ModelBody(BaseModel):
    """One instance. ``source`` is a hub id or a folder's name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "paliserve"
    resolution: int
    dtype: str
    device: str
    state: str
    tasks: list[str]
    adapters: list[str]
    max_tokens: int
    source: str


class ModelList(BaseModel):
    """All instances, the default first."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class AdapterRequest(BaseModel):
    """Where an adapter is: a folder of the server's, as peft writes it, or a hub id."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, Field(min_length=1, max_length=1000)]
    revision: Annotated[str, Field(min_length=1, max_length=256)] | None = None


def read_adapter(name: str, fields: dict[str, Any]) -> AdapterRequest:
    """Check what an adapter is to be called, and where it is said to be. Errors: InvalidRequest."""
    if not ADAPTER_NAME.fullmatch(name):
        problem = "a name of 1 to 100 letters, digits, dots, lines and underscores is needed, which begins with a letter or a digit"
        raise InvalidRequest(f"adapter: {problem}.", (FieldProblem("adapter", problem),))
    try:
        return AdapterRequest.model_validate(fields, strict=True)
    except ValidationError as error:
        raise refusal(error) from None


def model_routes(service: Service) -> APIRouter:
    """What ``service`` serves."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("", response_model=ModelList)
    async def list_models() -> ModelList:
        """What is served, the default first."""
        return ModelList(data=[_body(each) for each in service.models()])

    @router.get("/{name}", response_model=ModelBody)
    async def get_model(name: str) -> ModelBody:
        """One instance."""
        return _body(service.model(name))

    return router


def upkeep_routes(service: Service, gate: Gate) -> APIRouter:
    """How what ``service`` serves is changed, by administrators that ``gate`` knows."""
    router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(administrators(gate))])

    @router.post("/{name}/load", response_model=ModelBody)
    async def load_model(request: Request, name: str) -> ModelBody:
        """Load an instance, and answer when it is warm. Needs the admin key."""
        return _body(await while_connected(request, service.load(name)))

    @router.post("/{name}/unload", response_model=ModelBody)
    async def unload_model(request: Request, name: str) -> ModelBody:
        """Let an instance's requests end, then give back what it takes. Needs the admin key."""
        return _body(await while_connected(request, service.unload(name)))

    @router.post("/{name}/adapters/{adapter}/load", response_model=ModelBody)
    async def load_adapter(request: Request, name: str, adapter: str) -> ModelBody:
        """Load a LoRA adapter onto a warm instance: requests may then ask for it by `adapter`. Needs the admin key."""
        where = read_adapter(adapter, await read_object(request, 0, '{"source": "a folder, or a hub id"}'))
        return _body(await while_connected(request, service.load_adapter(name, adapter, where.source, where.revision)))

    @router.post("/{name}/adapters/{adapter}/unload", response_model=ModelBody)
    async def unload_adapter(request: Request, name: str, adapter: str) -> ModelBody:
        """Let an adapter's requests end, then give its place back. Needs the admin key."""
        return _body(await while_connected(request, service.unload_adapter(name, adapter)))

    return router


def _body(model: ModelDescription) -> ModelBody:
    return ModelBody(
        id=model.name, created=model.created, resolution=model.resolution, dtype=model.dtype, device=model.device, state=model.state,
        tasks=list(model.tasks), adapters=list(model.adapters), max_tokens=model.max_tokens, source=model.source,
    )  # fmt: skip

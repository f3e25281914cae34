"""``GET /v1/models``, in OpenAI's list form."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.instances.description import ModelDescription
from service.transports.ports import Service


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


def _body(model: ModelDescription) -> ModelBody:
    return ModelBody(
        id=model.name, created=model.created, resolution=model.resolution, dtype=model.dtype, device=model.device, state=model.state,
        tasks=list(model.tasks), adapters=list(model.adapters), max_tokens=model.max_tokens, source=model.source,
    )  # fmt: skip

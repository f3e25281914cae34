"""Probes and metrics."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.errors import ModelNotReady
from service.observability.metrics import Metrics
from service.transports.ports import Service


class Health(BaseModel):
    """All is well; anything else is a problem document."""

    status: str = "ok"


def health_routes(service: Service) -> APIRouter:
    """Kubernetes' three questions."""
    router = APIRouter(tags=["health"])

    @router.get("/livez")
    async def live() -> Health:
        """Whether the process makes progress: 503 tells Kubernetes to start it anew."""
        if not service.alive():
            raise ModelNotReady("The model has not come back from a step: where that does not pass, this process must be started anew.")
        return Health()

    @router.get("/readyz")
    async def ready() -> Health:
        """Whether new requests are taken: 503 while the service is stopping."""
        service.ready()
        return Health()

    @router.get("/startupz")
    async def started() -> Health:
        """Whether all models are warm. The port is opened only then, so that this answers at all."""
        return Health()

    return router


def metrics_routes(metrics: Metrics) -> APIRouter:
    """Prometheus' one question."""
    router = APIRouter(tags=["health"])
    kinds = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}

    @router.get("/metrics", response_class=Response, responses={200: {"content": kinds}})
    async def exposition(request: Request) -> Response:
        """Prometheus' text format, or OpenMetrics with exemplars where that is accepted."""
        body, kind = metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    return router

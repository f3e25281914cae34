"""The REST application: routes, error handlers, documentation."""

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import PaliServeError
from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn, Tracing
from service.observability.version import package_version
from service.transports.ports import Service
from service.transports.rest import problems
from service.transports.rest.batch import batch_routes
from service.transports.rest.chat import chat_routes
from service.transports.rest.door import Door
from service.transports.rest.health import health_routes
from service.transports.rest.inference import inference_routes
from service.transports.rest.middleware import Lingering
from service.transports.rest.models import model_routes
from service.transports.rest.openapi import describe
from service.transports.rest.routes import task_routes
from service.transports.rest.visits import Visits, visit_of
from service.transports.visits import VisitBook


def create_application(
    service: Service, metrics: Metrics, max_image_bytes: int, admin_key: str | None = None, tracing: Tracing | None = None
) -> FastAPI:
    """The application over a running service. ``admin_key``: see ``model_routes``."""
    application = FastAPI(
        title="PaliServe",
        version=package_version(),
        description="PaliGemma: captions, answers, boxes and masks as JSON.",
        redirect_slashes=False,
    )
    application.include_router(task_routes(service, max_image_bytes))
    application.include_router(batch_routes(service, max_image_bytes))
    application.include_router(chat_routes(service, max_image_bytes))
    application.include_router(inference_routes(service, max_image_bytes, package_version()))
    application.include_router(model_routes(service, admin_key))
    application.include_router(health_routes(service, metrics))

    @application.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("/docs")

    _handle_errors(application)
    book = VisitBook("rest", metrics, tracing or PassedOn())
    application.add_middleware(Visits, book=book)
    application.add_middleware(Door, service=service, book=book)
    # Added last, it stands outermost: its waiting is no part of a visit's time.
    application.add_middleware(Lingering)
    # FastAPI's way to replace the document.
    application.openapi = lambda: describe(application)  # type: ignore[method-assign]
    return application


def _handle_errors(application: FastAPI) -> None:
    def known(request: Request, error: Exception) -> Response:
        if not isinstance(error, PaliServeError):
            raise error
        visit_of(request).code = problems.TABLE[type(error)].code
        return problems.of_error(error, request.scope["path"])

    def http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        visit_of(request).code = f"http_{error.status_code}"
        return problems.of_http(error, request.scope["path"])

    application.add_exception_handler(PaliServeError, known)
    application.add_exception_handler(HTTPException, http)

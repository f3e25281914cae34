"""The REST application: routes, error handlers, documentation."""

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import PaliServeError
from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn, Tracing
from service.observability.version import package_version
from service.transports.budget import Budget
from service.transports.ports import Service
from service.transports.rest import problems
from service.transports.rest.batch import batch_routes
from service.transports.rest.browsers import Browsers
from service.transports.rest.chat import chat_routes
from service.transports.rest.door import Door
from service.transports.rest.guard import Access, Guard, Offered
from service.transports.rest.health import health_routes, metrics_routes
from service.transports.rest.inference import inference_routes
from service.transports.rest.middleware import Holding, Lingering
from service.transports.rest.models import model_routes, upkeep_routes
from service.transports.rest.openapi import describe
from service.transports.rest.playground.files import playground_routes
from service.transports.rest.routes import task_routes
from service.transports.rest.visits import Visits, visit_of
from service.transports.visits import VisitBook

EXPOSED = ("x-request-id", "retry-after")
"""Headers of an answer that pages of listed sites may read."""


def create_application(
    service: Service,
    metrics: Metrics,
    max_image_bytes: int,
    access: Access | None = None,
    tracing: Tracing | None = None,
    offered: Offered | None = None,
    budget: Budget | None = None,
) -> FastAPI:
    """The application over a running service. Without ``access`` all may call who reach it, and without ``offered`` everything is there.

    ``budget`` is that of all requests of the process.
    """
    access, offered = access or Access(), offered or Offered()
    documented = offered.upkeep and offered.docs
    application = FastAPI(
        title="PaliServe",
        version=package_version(),
        description="PaliGemma: captions, answers, boxes and masks as JSON.",
        redirect_slashes=False,
        openapi_url="/openapi.json" if documented else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    if offered.tasks:
        application.include_router(task_routes(service, max_image_bytes))
        application.include_router(batch_routes(service, max_image_bytes))
        application.include_router(chat_routes(service, max_image_bytes))
        application.include_router(inference_routes(service, max_image_bytes, package_version()))
    application.include_router(model_routes(service))
    if offered.upkeep:
        application.include_router(upkeep_routes(service, access.gate))
        application.include_router(metrics_routes(metrics))
    application.include_router(health_routes(service))
    if offered.tasks and offered.playground:
        application.include_router(playground_routes(documented, offered.grpc_port))
    elif documented:
        application.get("/", include_in_schema=False)(_start)
    _handle_errors(application)
    _surround(application, access, service, VisitBook("rest", metrics, tracing or PassedOn()), budget or Budget())
    # FastAPI's way to replace the document.
    application.openapi = lambda: describe(application)  # type: ignore[method-assign]
    return application


def split_by_port(port: int, inner: ASGIApp, outer: ASGIApp) -> ASGIApp:
    """One application for whoever came to ``port`` of this machine, which nothing in a request can say, and one for all others."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        came_to = scope["server"][1] if scope["type"] == "http" else None
        await (inner if came_to == port else outer)(scope, receive, send)

    return application


async def _start() -> RedirectResponse:
    return RedirectResponse("/docs")


def _surround(application: FastAPI, access: Access, service: Service, book: VisitBook, budget: Budget) -> None:
    """What stands around the routes, the innermost first."""
    application.add_middleware(Visits, book=book)
    application.add_middleware(Holding, budget=budget)
    # There is as much room for a caller as for others: who it is must be known before.
    application.add_middleware(Door, service=service, book=book)
    application.add_middleware(Guard, gate=access.gate, book=book)
    if access.cors_origins:
        # A browser asks for leave before it sends a key, and pages read refusals too: outside of the guard.
        application.add_middleware(
            CORSMiddleware,
            allow_origins=[each.lower() for each in access.cors_origins],
            allow_methods="*",
            allow_headers="*",
            expose_headers=EXPOSED,
        )
    application.add_middleware(Browsers, hosts=access.allowed_hosts, origins=access.cors_origins, book=book)
    # Outermost: its waiting is no part of a visit's time.
    application.add_middleware(Lingering)


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

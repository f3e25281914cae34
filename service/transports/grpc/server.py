"""The gRPC server: its services, its limits, its life."""

import os
from dataclasses import dataclass, field

import grpc
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.access.certificates import Certificates
from service.access.gate import Gate
from service.access.watched import Watched
from service.errors import OperatorError
from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn, Tracing
from service.transports.budget import Budget
from service.transports.grpc import inference
from service.transports.grpc.calls import Calls
from service.transports.grpc.generated import inference_pb2_grpc, paligemma_pb2_grpc
from service.transports.grpc.health import Health
from service.transports.grpc.servicer import NAME, PaliGemmaServicer
from service.transports.ports import Service
from service.transports.visits import VisitBook

METADATA_BYTES = 16_384
"""Of the headers of a call; more is refused by the library before anybody sees it."""

GRACE = 5.0
"""Seconds that calls have to end after the last request was answered: streams on which nothing comes, answers on their way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask of the server.

    ``message_bytes``: of a message at most. ``calls`` run at once, and ``calls_per_connection`` of one client: further ones are refused, or
    wait at the client. ``connections``: of all clients together; the library closes further ones.

    ``keepalive``: seconds without a sign of life from a client until the server asks for one, and ``keepalive_timeout`` until it must come.
    ``ping_interval``: seconds that a client must leave between its own pings. ``connection_age``: seconds after which a client is asked to
    connect anew, so that its calls spread over servers that have come since; None: never. ``receive``: seconds in which a call's message
    must have come. ``budget``: of the bytes of all requests of the process, whichever transport they come by.
    """

    message_bytes: int
    calls: int
    calls_per_connection: int
    keepalive: float
    keepalive_timeout: float
    ping_interval: float
    connection_age: float | None
    receive: float = 60.0
    connections: int = 384
    budget: Budget = field(default_factory=Budget)

    def channel_arguments(self) -> list[tuple[str, int]]:
        """In gRPC's words."""
        arguments = {
            "grpc.max_receive_message_length": self.message_bytes,
            "grpc.max_concurrent_streams": self.calls_per_connection,
            "grpc.max_allowed_incoming_connections": self.connections,
            "grpc.keepalive_time_ms": int(1000 * self.keepalive),
            "grpc.keepalive_timeout_ms": int(1000 * self.keepalive_timeout),
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.min_recv_ping_interval_without_data_ms": int(1000 * self.ping_interval),
            "grpc.http2.max_ping_strikes": 2,
            "grpc.max_metadata_size": METADATA_BYTES,
            "grpc.absolute_max_metadata_size": METADATA_BYTES,
            "grpc.server_handshake_timeout_ms": 10_000,
            # A connection without calls.
            "grpc.max_connection_idle_ms": 300_000,
            # A port that another server listens on is taken.
            "grpc.so_reuseport": 0,
        }
        if self.connection_age is not None:
            arguments["grpc.max_connection_age_ms"] = int(1000 * self.connection_age)
        return list(arguments.items())


class GrpcServer:
    """All that is offered over gRPC."""

    def __init__(
        self,
        service: Service,
        metrics: Metrics,
        limits: Limits,
        reflected: bool,
        version: str,
        tracing: Tracing | None = None,
        gate: Gate | None = None,
    ) -> None:
        """``reflected``: whether clients may ask which services and messages there are. ``version`` is the program's.

        Without a ``gate`` all may call who reach it.
        """
        if api_implementation.Type() != "upb":
            raise OperatorError("protobuf runs without its C implementation (upb), whose messages may nest only so deep: install it anew.")
        # Its complaints go to the standard error, past our log; what matters in them is raised as well.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        book = VisitBook("grpc", metrics, tracing or PassedOn())
        calls = Calls(book, gate or Gate(), limits.budget, limits.receive)
        self._server = grpc.aio.server(interceptors=[calls], options=limits.channel_arguments(), maximum_concurrent_rpcs=limits.calls)
        services = [NAME, inference.NAME]
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference.InferenceServicer(service, version), self._server)  # type: ignore[no-untyped-call]
        paligemma_pb2_grpc.add_PaliGemmaServiceServicer_to_server(PaliGemmaServicer(service, book), self._server)  # type: ignore[no-untyped-call]
        self._health = Health([*services, *(each.name for each in service.models())])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflected:
            names = (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self, host: str, port: int, certificates: Watched[Certificates] | None = None) -> int:
        """Listen, with TLS where there are certificates; returns the port, which 0 leaves to the system. Errors: OSError.

        Health tells that nothing is taken yet.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if certificates:
                bound = self._server.add_secure_port(address, _credentials(certificates))
            else:
                bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        await self._server.start()
        return bound

    def tell(self, serving: bool) -> None:
        """Whether requests are taken, to all who ask about the server's health."""
        self._health.tell(serving)

    def tell_of(self, instance: str, warm: bool) -> None:
        """Whether an instance is warm, to all who ask about its health."""
        self._health.tell_of(instance, warm)

    async def stop(self, at_once: bool = False) -> None:
        """Let calls end, then cut those that do not."""
        self._health.tell(False)
        self._health.close()
        await self._server.stop(None if at_once else GRACE)


def _credentials(certificates: Watched[Certificates]) -> grpc.ServerCredentials:
    """Asked for anew at each handshake, on a thread of the library's."""

    def newest() -> grpc.ServerCertificateConfiguration:
        now = certificates.value
        return grpc.ssl_server_certificate_configuration([(now.key, now.certificate)], now.client_ca)

    wants_clients = certificates.value.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(newest(), newest, require_client_authentication=wants_clients)

"""Health, reflection, limits, and the end."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.errors import Draining
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.server import GrpcServer
from tests.transports.grpc.server_fake import LIMITS, Grpc, refused
from tests.transports.rest.service_fake import IMAGE

READ = pb.ReadRequest(image=IMAGE)
NAMES = ("", "paligemma.v1.PaliGemmaService", "fake-224")
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


def health(server: Grpc) -> Any:
    return health_pb2_grpc.HealthStub(server.channel)


def watched(server: Grpc, name: str) -> Any:
    return health(server).Watch(health_pb2.HealthCheckRequest(service=name))


@pytest.mark.parametrize("name", NAMES)
def test_health_of_the_whole_of_services_and_of_instances(server: Grpc, name: str) -> None:
    request = health_pb2.HealthCheckRequest(service=name)
    assert health(server).Check(request).status == NOT_SERVING
    watch = watched(server, name)
    assert next(watch).status == NOT_SERVING
    server.tell(True)
    assert health(server).Check(request).status == SERVING
    assert next(watch).status == SERVING
    server.tell(False)
    assert next(watch).status == NOT_SERVING
    watch.cancel()


def test_an_unknown_name(server: Grpc) -> None:
    error = refused(health(server).Check, health_pb2.HealthCheckRequest(service="no"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "fake-224" in str(error.details())
    watch = watched(server, "no")
    assert next(watch).status == UNKNOWN
    watch.cancel()


def test_one_watcher_may_leave_another(server: Grpc) -> None:
    first, second = watched(server, ""), watched(server, "")
    assert [next(first).status, next(second).status] == [NOT_SERVING, NOT_SERVING]
    first.cancel()
    with pytest.raises(grpc.RpcError):
        next(first)
    server.tell(True)
    assert next(second).status == SERVING
    second.cancel()


def test_those_who_watch_do_not_keep_the_server(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop)
    server.tell(True)
    watch = watched(server, "")
    assert next(watch).status == SERVING
    server.run(server.server.stop())
    assert [each.status for each in watch] == [NOT_SERVING]
    server.channel.close()


def test_what_is_accepted_is_answered_before_the_end(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop)
    server.fake.hold = True
    call = server.stub.Read.future(READ)
    server.run(server.fake.entered.wait())
    stopping = threading.Thread(target=lambda: server.run(server.server.stop()))
    stopping.start()

    async def release() -> None:
        server.fake.release()

    server.run(release())
    assert call.result().text_read == "some text"
    stopping.join()
    server.channel.close()


def test_a_stream_is_told_that_the_server_stops(server: Grpc) -> None:
    server.service.refusal = Draining("Stopping.")
    with pytest.raises(grpc.RpcError) as caught:
        list(server.stub.Batch(iter([pb.BatchRequest(read=READ)])))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def listed(server: Grpc) -> list[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    return sorted(each.name for each in answer.list_services_response.service)


def test_reflection_lists_what_is_served(server: Grpc) -> None:
    assert {"paligemma.v1.PaliGemmaService", "grpc.health.v1.Health"} < set(listed(server))


def test_reflection_can_be_off(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop, reflected=False)
    with pytest.raises(grpc.RpcError) as caught:
        listed(server)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    server.close()


def test_threat_23_a_message_that_is_too_long(server: Grpc) -> None:
    error = refused(server.stub.Read, pb.ReadRequest(image=b"x" * (LIMITS.message_bytes + 1)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = refused(server.stub.Read, pb.ReadRequest(image=b"\0" * 10_000_000), compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.fake.calls == []


def test_threat_29_so_many_calls_run_at_once(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop, replace(LIMITS, calls=2))
    server.fake.hold = True
    held = [server.stub.Read.future(READ) for _ in range(2)]
    server.run(server.fake.called(2))
    assert refused(server.stub.Read, READ).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in held:
        call.cancel()
    server.close()


def test_a_port_in_use_is_told(server: Grpc) -> None:
    async def start_another() -> None:
        await GrpcServer(server.service, server.metrics, LIMITS, reflected=False, version="0").start("127.0.0.1", server.port)

    with pytest.raises(OSError, match=str(server.port)):
        server.run(start_another())

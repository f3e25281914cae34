"""How messages come in: within a time, within the budget, and never in a form that costs more than it is long."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from service.errors import OperatorError
from service.transports.budget import Budget
from service.transports.grpc import batch, probes
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.server import METADATA_BYTES
from tests.transports.grpc.server_fake import LIMITS, Grpc, refused
from tests.transports.rest.service_fake import IMAGE

READ = pb.ReadRequest(image=IMAGE)
PATH = "/paligemma.v1.PaliGemmaService/"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
LARGE = pb.ReadRequest(image=bytes(1000))


class Silent:
    """What a client means to send, and does not."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self._over.wait(60)
        yield from ()

    def end(self) -> None:
        self._over.set()


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError):
        list(call)
    code: grpc.StatusCode = call.code()
    return code


def until_free(server: Grpc) -> None:
    """Until nothing is held any more: a call is over for its client a little sooner."""

    async def free() -> None:
        while server.budget.held:  # noqa: ASYNC110 (nobody is told)
            await asyncio.sleep(0.005)

    server.run(free())


@pytest.mark.parametrize("method", [f"{PATH}Read", f"{PATH}StreamGenerate", CHECK, WATCH])
def test_threat_22_a_call_whose_message_never_comes_gives_its_place_back(loop: asyncio.AbstractEventLoop, method: str) -> None:
    server = Grpc(loop, replace(LIMITS, calls=1, receive=0.1))
    silent = Silent()
    # To HTTP/2 a call of one message is a stream like any other.
    call: Any = server.channel.stream_stream(method, bytes, bytes)(iter(silent))
    assert code_of(call) is grpc.StatusCode.DEADLINE_EXCEEDED
    silent.end()
    assert server.stub.Read(READ).text_read == "some text"
    server.close()


@pytest.mark.parametrize("method", ["Read", "StreamGenerate"])
def test_a_call_that_ends_without_a_message(server: Grpc, method: str) -> None:
    call: Any = server.channel.stream_stream(f"{PATH}{method}", bytes, bytes)(iter(()))
    assert code_of(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert "without a message" in call.details()


def test_threat_29_only_so_many_watch(server: Grpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MOST_STREAMS", 2)
    health: Any = health_pb2_grpc.HealthStub(server.channel)
    watches: list[Any] = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
    for each in watches:
        next(each)
    assert code_of(health.Watch(health_pb2.HealthCheckRequest())) is grpc.StatusCode.UNAVAILABLE
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    assert code_of(reflection.ServerReflectionInfo(iter(()))) is grpc.StatusCode.UNAVAILABLE
    assert health.Check(health_pb2.HealthCheckRequest()).status == 2
    for each in watches:
        each.cancel()


def test_threat_11_the_bytes_of_all_calls_have_one_budget(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop, replace(LIMITS, budget=Budget(2500)))
    server.fake.hold = True
    held = [server.stub.Read.future(LARGE) for _ in range(2)]
    server.run(server.fake.called(2))
    assert 2000 <= server.budget.held <= 2500
    error = refused(server.stub.Read, LARGE)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "grpc-retry-pushback-ms" in dict(error.trailing_metadata() or ())
    for call in held:
        call.cancel()
    until_free(server)
    server.close()


def test_threat_11_a_stream_holds_its_pictures_one_by_one(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop, replace(LIMITS, budget=Budget(4500)))
    server.fake.hold = True
    more = Silent()

    def asked() -> Iterator[pb.BatchRequest]:
        # The last picture counts beside its request, as that of those that follow.
        for number in range(5):
            yield pb.BatchRequest(id=str(number), read=LARGE)
        yield from iter(more)  # type: ignore[misc]

    answers: Any = server.stub.Batch(asked())
    first = [next(answers) for _ in range(2)]
    assert {each.error.code for each in first} == {"overloaded"}
    assert {each.id for each in first} == {"3", "4"}

    async def release() -> None:
        server.fake.release()

    server.run(release())
    assert sorted(next(answers).id for _ in range(3)) == ["0", "1", "2"]
    more.end()
    assert list(answers) == []
    until_free(server)
    server.close()


def test_threat_29_a_stream_on_which_nothing_happens_is_ended(server: Grpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LONGEST_IDLE", 0.1)
    server.fake.hold = True
    silent = Silent()

    def asked() -> Iterator[pb.BatchRequest]:
        yield pb.BatchRequest(read=READ)
        yield from iter(silent)  # type: ignore[misc]

    answers: Any = server.stub.Batch(asked())
    server.run(server.fake.entered.wait())

    async def release_later() -> None:
        # Longer than a stream may be idle, but this one waits for its answer.
        await asyncio.sleep(0.3)
        server.fake.release()

    server.run(release_later())
    assert next(answers).read.text_read == "some text"
    assert code_of(answers) is grpc.StatusCode.DEADLINE_EXCEEDED
    silent.end()


@pytest.mark.parametrize("size", [METADATA_BYTES, 10 * METADATA_BYTES])
def test_threat_21_metadata_has_a_limit(server: Grpc, size: int) -> None:
    error = refused(server.stub.Read, READ, metadata=(("x-much", "x" * size),))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.fake.calls == []


GROUP = b"\x9b\x06"
"""The beginning of a group whose number no message knows: it is read as far as it goes."""


@pytest.mark.parametrize("depth", [101, 12_000])
def test_threat_28_messages_nest_only_so_deep(server: Grpc, depth: int) -> None:
    ends = b"\x9c\x06"
    call: Any = server.channel.unary_unary(f"{PATH}Read", bytes, bytes)
    error = refused(call, GROUP * depth + ends * depth)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in str(error.details())


def test_threat_28_no_server_without_the_c_implementation_of_protobuf(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.protobuf.internal.api_implementation.Type", lambda: "python")
    with pytest.raises(OperatorError, match="upb"):
        Grpc(loop)


def test_threat_29_ten_thousand_calls_that_are_opened_and_cancelled_leave_nothing(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop, replace(LIMITS, budget=Budget(10_000_000)))
    server.fake.hold = True
    for _ in range(100):
        calls = [server.stub.Read.future(READ) for _ in range(100)]
        for call in calls:
            call.cancel()
    until_free(server)
    server.fake.hold = False
    assert server.stub.Read(READ).text_read == "some text"
    ended = len(server.fake.calls) - 1
    counted = sum(float(line.rpartition(" ")[2]) for line in server.counted())
    assert counted >= ended
    server.close()


def test_threat_29_connections_have_a_limit(loop: asyncio.AbstractEventLoop) -> None:
    server = Grpc(loop, replace(LIMITS, connections=2))
    first, second, third = (socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3))
    for each in (first, second):
        each.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert each.recv(1)
    assert third.recv(1) == b""
    for each in (first, second, third):
        each.close()
    server.close()

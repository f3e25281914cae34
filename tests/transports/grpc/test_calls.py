"""Around every call: ids, log lines, levels, and clients who do not read."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest

from service.access.gate import Caller, Gate
from service.errors import InvalidImage
from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn
from service.transports.budget import Budget
from service.transports.grpc import calls
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.visits import VisitBook, logger
from tests.transports.grpc.server_fake import Grpc, refused
from tests.transports.rest.service_fake import IMAGE

READ = pb.ReadRequest(image=IMAGE)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == logger.name]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "service.transports")


@pytest.mark.parametrize("asked", ["a", "A-1_b.c", "x" * 64])
def test_threat_32_a_sane_id_is_kept(server: Grpc, asked: str) -> None:
    response, call = server.stub.Read.with_call(READ, metadata=(("x-request-id", asked),))
    assert response.id == asked
    assert dict(call.trailing_metadata())["x-request-id"] == asked


@pytest.mark.parametrize("asked", ["", "x" * 65, "a b", "<script>"])
def test_threat_32_another_id_is_replaced(server: Grpc, asked: str) -> None:
    ids = {server.stub.Read(READ, metadata=(("x-request-id", asked),)).id for _ in range(2)}
    assert len(ids) == 2
    assert all(len(each) == 32 and each.isalnum() for each in ids)


def test_parts_of_a_batch_have_ids_of_their_own(server: Grpc) -> None:
    answers = server.stub.Batch(iter([pb.BatchRequest(read=READ)] * 3), metadata=(("x-request-id", "mine"),))
    assert sorted(answer.read.id for answer in answers) == ["mine-0", "mine-1", "mine-2"]


def test_one_line_for_each_call(server: Grpc, caplog: pytest.LogCaptureFixture) -> None:
    server.stub.Read(READ, metadata=(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),))
    list(server.stub.StreamGenerate(pb.StreamGenerateRequest(image=IMAGE, prompt="x")))
    list(server.stub.Batch(iter([])))
    server.fake.error = InvalidImage("No.")
    refused(server.stub.Read, READ)
    server.fake.error = RuntimeError("why")
    refused(server.stub.Read, READ)
    told = lines(caplog)
    starts = ("Read OK ok ", "StreamGenerate OK ok ", "Batch OK ok ", "Read INVALID_ARGUMENT invalid_image ", "Read INTERNAL internal ")
    assert len(told) == len(starts)
    for line, start in zip(told, starts, strict=True):
        assert line.startswith(f"paligemma.v1.PaliGemmaService/{start}")
    assert told[0].endswith(f" ms trace {TRACE}")
    records = [record for record in caplog.records if record.name.startswith("service.transports.")]
    assert [record.levelname for record in records[-2:]] == ["ERROR", "ERROR"]
    assert records[-2].exc_info


def test_a_method_that_is_not_there(server: Grpc, caplog: pytest.LogCaptureFixture) -> None:
    call: Any = server.channel.unary_unary("/paligemma.v1.PaliGemmaService/Nothing", lambda each: each, lambda each: each)
    assert refused(call, b"").code() is grpc.StatusCode.UNIMPLEMENTED
    assert lines(caplog) == []


def test_bytes_that_are_no_message(server: Grpc, caplog: pytest.LogCaptureFixture) -> None:
    path = "/paligemma.v1.PaliGemmaService/"
    unary: Any = server.channel.unary_unary(f"{path}Read", bytes, bytes)
    error = refused(unary, b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.details()).startswith("The message cannot be read")
    stream: Any = server.channel.stream_stream(f"{path}Batch", bytes, bytes)
    error = refused(list, stream(iter([b"\xff\xff\xff"])))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [line.split()[2] for line in lines(caplog)] == ["invalid_request"] * 2
    assert server.stub.Read(READ).text_read == "some text"


class UnreadContext:
    """A call whose client reads nothing."""

    def set_trailing_metadata(self, metadata: object) -> None: ...

    async def write(self, message: object) -> None:
        await asyncio.Event().wait()


async def received(sent: object, hold: object) -> object:
    return sent


def test_threat_22_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch, server: Grpc, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(calls, "LONGEST_SEND", 0.01)
    closed = []

    async def answers(request: object, context: object) -> AsyncGenerator[str, None]:
        try:
            yield "one"
        finally:
            closed.append(True)

    async def followed() -> None:
        book = VisitBook("grpc", server.metrics, PassedOn())
        around: Any = calls._Call(book, Budget(), "a/B", {}, lambda: Gate().admit(Caller())).around(calls._streamed(answers), received)
        with pytest.raises(asyncio.CancelledError):
            await around("", UnreadContext())

    asyncio.run(followed())
    assert closed == [True]
    assert lines(caplog)[0].startswith("a/B CANCELLED cancelled ")


def test_a_stream_whose_client_left_is_no_failure_of_ours(server: Grpc, caplog: pytest.LogCaptureFixture) -> None:
    """Found by fuzzing: what could not be sent was logged as an error."""

    class Gone(UnreadContext):
        async def write(self, response: object) -> None:
            raise grpc.aio.InternalError("execute_batch")

    async def answers(request: object, context: object) -> AsyncGenerator[str, None]:
        yield "one"

    async def followed() -> None:
        book = VisitBook("grpc", server.metrics, PassedOn())
        around: Any = calls._Call(book, Budget(), "a/B", {}, lambda: Gate().admit(Caller())).around(calls._streamed(answers), received)
        with pytest.raises(asyncio.CancelledError):
            await around("", Gone())

    asyncio.run(followed())
    assert lines(caplog)[0].startswith("a/B CANCELLED cancelled ")
    assert "unforeseen" not in caplog.text


def test_an_error_for_a_client_who_left_is_no_failure_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Found by fuzzing: gRPC's library then raised something else, and logged it as an error."""

    class Gone:
        def set_trailing_metadata(self, trailers: object) -> None: ...

        async def abort(self, *arguments: object) -> None:
            raise grpc.aio.InternalError("execute_batch")

    async def behaviour(request: object, context: object) -> None:
        raise InvalidImage("No.")

    call = calls._Call(VisitBook("grpc", Metrics("0"), PassedOn()), Budget(), "a/B", {}, lambda: Gate().admit(Caller()))
    wrapped = call.around(behaviour, received)
    context: Any = Gone()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wrapped(b"", context))
    assert [record.levelname for record in caplog.records if record.name == logger.name] == ["INFO"]

"""Who gets to the methods over gRPC, and how often."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.access.gate import Gate
from service.tasks.callers import caller
from service.transports.grpc.generated import inference_pb2 as oip
from service.transports.grpc.generated import inference_pb2_grpc
from service.transports.grpc.generated import paligemma_pb2 as pb
from tests.transports.grpc.server_fake import LIMITS, Grpc, refused
from tests.transports.rest.service_fake import IMAGE, KEYS

SERVICES = (
    "paligemma.v1.PaliGemmaService", "inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
)  # fmt: skip
SPELLINGS = (
    "paligemma.v1.PaliGemmaService/Read //paligemma.v1.PaliGemmaService/Read /PALIGEMMA.v1.PaliGemmaService/Read "
    "/grpc.health.v1.Health/../Read /grpc.health.x/Read /"
).split()
NAMED = {
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
}
"""All that needs no key."""

READ = pb.ReadRequest(image=IMAGE)


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}'s"),)


@pytest.fixture
def keyed(loop: asyncio.AbstractEventLoop) -> Iterator[Grpc]:
    """Nobody is let in without a key; no time passes."""
    made = Grpc(loop, gate=Gate(lambda: KEYS, anonymous=False, lenient=False, clock=lambda: 0.0))
    yield made
    made.close()


def called(server: Grpc, path: str, sent: bytes = b"", **arguments: Any) -> grpc.StatusCode:
    """The status of a call with these bytes, as a stream both ways: what a method takes makes no difference on the wire."""
    as_they_are: Callable[[bytes], bytes] = bytes
    call = server.channel.stream_stream(path, request_serializer=as_they_are, response_deserializer=as_they_are)
    answers = call(iter([sent]), timeout=20, **arguments)
    try:
        next(answers, None)
        answers.cancel()
    except grpc.RpcError as error:
        status: grpc.StatusCode = error.code()
        return status
    return grpc.StatusCode.OK


def test_threat_53_every_method_needs_a_key_but_a_named_few(keyed: Grpc) -> None:
    pool = descriptor_pool.Default()
    paths = {f"/{name}/{method.name}" for name in SERVICES for method in pool.FindServiceByName(name).methods}
    assert len(paths) > 18
    assert paths >= NAMED
    for path in sorted(paths):
        status = called(keyed, path)
        if path in NAMED:
            assert status in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED), path
        else:
            assert status is grpc.StatusCode.UNAUTHENTICATED, path
    assert not keyed.fake.calls


@pytest.mark.parametrize("path", SPELLINGS)
def test_threat_53_no_spelling_of_a_method_gets_around_it(keyed: Grpc, path: str) -> None:
    assert called(keyed, path, READ.SerializeToString()) in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
    assert not keyed.fake.calls


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer another", "Basic user's", "user's"])
def test_all_others_are_refused(keyed: Grpc, sent: str) -> None:
    error = refused(keyed.stub.Read, READ, metadata=(("authorization", sent),))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "x-request-id" in dict(error.trailing_metadata())


def test_the_key_is_asked_for_before_the_message(keyed: Grpc) -> None:
    # One that is too long is not even counted.
    too_long = pb.ReadRequest(image=b"x" * (LIMITS.message_bytes + 1))
    assert refused(keyed.stub.Read, too_long).code() is grpc.StatusCode.UNAUTHENTICATED
    assert called(keyed, "/paligemma.v1.PaliGemmaService/Read", b"\xff\xff") is grpc.StatusCode.UNAUTHENTICATED
    assert called(keyed, "/paligemma.v1.PaliGemmaService/Read", b"\xff\xff", metadata=bearer("user")) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_key_opens_everything(keyed: Grpc, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    admitted: Callable[..., Any] = keyed.fake._admitted

    async def tell(*arguments: Any) -> Any:
        told.append(caller.get())
        return await admitted(*arguments)

    monkeypatch.setattr(keyed.fake, "_admitted", tell)
    assert keyed.stub.Read(READ, metadata=bearer("user")).text_read
    assert list(keyed.stub.StreamGenerate(pb.StreamGenerateRequest(image=IMAGE, prompt="x"), metadata=bearer("admin")))
    (answer,) = keyed.stub.Batch(iter([pb.BatchRequest(id="a", read=READ)]), metadata=bearer("user"))
    assert answer.read.text_read
    assert told == ["user", "admin", "user"]
    inference: Any = inference_pb2_grpc.GRPCInferenceServiceStub(keyed.channel)  # type: ignore[no-untyped-call]
    assert inference.ServerReady(oip.ServerReadyRequest()).ready
    assert inference.ServerMetadata(oip.ServerMetadataRequest(), metadata=bearer("user")).name
    reflected: Any = reflection_pb2_grpc.ServerReflectionStub(keyed.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (listed,) = reflected.ServerReflectionInfo(iter([asked]), metadata=bearer("user"))
    assert len(listed.list_services_response.service) == 4
    health: Any = health_pb2_grpc.HealthStub(keyed.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status


def test_a_quota_is_told_with_the_time_to_wait(keyed: Grpc) -> None:
    for _ in range(3):
        keyed.stub.Read(READ, metadata=bearer("slow"))
    error = refused(keyed.stub.Read, READ, metadata=bearer("slow"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert 20 <= retry.retry_delay.seconds <= 24
    assert keyed.stub.Read(READ, metadata=bearer("user")).text_read


def test_each_request_of_a_stream_counts(keyed: Grpc) -> None:
    requests = [pb.BatchRequest(id=str(number), read=READ) for number in range(6)]
    answers = list(keyed.stub.Batch(iter(requests), metadata=bearer("slow")))
    outcomes = [each.WhichOneof("outcome") for each in answers]
    assert outcomes.count("error") >= 3
    assert {each.error.code for each in answers if each.WhichOneof("outcome") == "error"} == {"rate_limited"}


def test_no_more_at_once_than_allowed_and_places_come_back(keyed: Grpc) -> None:
    keyed.fake.hold = True
    held = [keyed.stub.Read.future(READ, metadata=bearer("slow")) for _ in range(2)]
    keyed.run(keyed.fake.called(2))
    assert refused(keyed.stub.Read, READ, metadata=bearer("slow")).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # Those who go away leave no place taken.
    held[0].cancel()
    keyed.run(keyed.fake.left.wait())
    keyed.fake.hold = False
    assert keyed.stub.ListModels(pb.ListModelsRequest(), metadata=bearer("slow")).models
    held[1].cancel()


def test_threat_58_a_made_up_address_is_not_another_caller(keyed: Grpc) -> None:
    def ask(number: int) -> grpc.StatusCode:
        spoofed = (("x-forwarded-for", f"10.0.0.{number}"), ("x-real-ip", f"10.0.0.{number}"))
        try:
            keyed.stub.Read(READ, metadata=bearer("slow") + spoofed)
        except grpc.RpcError as error:
            status: grpc.StatusCode = error.code()
            return status
        return grpc.StatusCode.OK

    assert [ask(number) for number in range(5)] == [grpc.StatusCode.OK] * 3 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2


def test_threat_56_strangers_add_no_series(keyed: Grpc) -> None:
    def series() -> set[str]:
        return {line.rpartition(" ")[0] for line in keyed.metrics.exposition()[0].decode().splitlines() if not line.startswith("#")}

    called(keyed, "/paligemma.v1.PaliGemmaService/Read")
    before = series()
    for number in range(300):
        called(keyed, f"/paligemma.v1.PaliGemmaService/Read{number}")
        called(keyed, f"/service-{number}/Method", metadata=(("authorization", f"Bearer {number}"),))
        called(keyed, "/paligemma.v1.PaliGemmaService/Read", metadata=(("authorization", f"Bearer {number}"), (f"x-{number}", "1")))
    assert series() == before

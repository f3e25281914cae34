"""Every error as a status with its details."""

import inspect
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from service import errors
from service.errors import FieldProblem, InvalidRequest, Overloaded, PaliServeError, RateLimited
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.statuses import TABLE, failure_of, seconds
from service.transports.rest import problems
from service.transports.rest.refusals import UnsupportedConversation
from tests.transports.grpc.server_fake import Grpc, refused
from tests.transports.rest.service_fake import IMAGE

ERRORS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, PaliServeError) and kind is not PaliServeError
]
DETAILS = {"ErrorInfo": error_details_pb2.ErrorInfo, "BadRequest": error_details_pb2.BadRequest, "RetryInfo": error_details_pb2.RetryInfo}


def made(kind: type[PaliServeError]) -> PaliServeError:
    return kind("Busy.", 2.0) if kind in (Overloaded, RateLimited) else kind("What was wrong.")


def failed(server: Grpc, error: Exception, **metadata: str) -> tuple[Any, dict[str, Any]]:
    """The client's error, and its details by their names."""
    server.fake.error = error
    sent = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    caught = refused(server.stub.Read, pb.ReadRequest(image=IMAGE), metadata=sent)
    status: Any = rpc_status.from_call(caught)
    told = {}
    for packed in status.details:
        name = packed.type_url.rpartition(".")[2]
        told[name] = DETAILS[name]()
        assert packed.Unpack(told[name])
    assert status.message == caught.details()
    return caught, told


def test_the_table_knows_every_error_and_agrees_with_rests() -> None:
    assert set(TABLE) == set(ERRORS)
    for kind, code in TABLE.items():
        assert code.code == problems.TABLE[kind].code


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_has_its_status_and_reason(server: Grpc, kind: type[PaliServeError]) -> None:
    error, details = failed(server, made(kind), x_request_id="mine")
    assert error.code() is TABLE[kind].status
    info = details["ErrorInfo"]
    assert (info.reason, info.domain) == (TABLE[kind].code.upper(), "paliserve")
    assert dict(info.metadata) == {"request_id": "mine"}
    assert dict(error.trailing_metadata())["x-request-id"] == "mine"
    assert server.counted() == [f'paliserve_requests_total{{code="{TABLE[kind].code}",model="_other",task="read",transport="grpc"}} 1.0']


def test_fields_are_told_one_by_one(server: Grpc) -> None:
    _, details = failed(server, InvalidRequest("Two are wrong.", (FieldProblem("a.0", "is bad"), FieldProblem("b", "is worse"))))
    violations = details["BadRequest"].field_violations
    assert [(each.field, each.description) for each in violations] == [("a.0", "is bad"), ("b", "is worse")]


def test_what_many_fields_say_fits_the_metadata(server: Grpc) -> None:
    error, details = failed(server, InvalidRequest("Many.", tuple(FieldProblem(f"objects.{index}", "x" * 300) for index in range(100))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert 5 < len(details["BadRequest"].field_violations) < 20


def test_an_overloaded_server_says_when_to_come_back(server: Grpc) -> None:
    waits = set()
    for _ in range(20):
        error, details = failed(server, Overloaded("Busy.", 2.0))
        pushback = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
        assert abs(details["RetryInfo"].retry_delay.ToMilliseconds() - pushback) <= 1
        assert 1600 <= pushback <= 2400
        waits.add(pushback)
    assert len(waits) > 5


def test_who_stops_tells_no_client_to_wait_for_it(server: Grpc) -> None:
    error, details = failed(server, errors.Draining("Stopping."))
    assert "RetryInfo" in details
    assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata())


def test_a_refusal_comes_before_the_task(server: Grpc) -> None:
    server.service.refusal = errors.ModelNotReady("Warming up.")
    assert refused(server.stub.Read, pb.ReadRequest(image=IMAGE)).code() is grpc.StatusCode.UNAVAILABLE
    assert server.fake.calls == []


def test_another_transports_own_error_is_an_invalid_request() -> None:
    assert failure_of(UnsupportedConversation("No.")).code == "invalid_request"


def test_seconds() -> None:
    assert seconds(1.5).ToMilliseconds() == 1500

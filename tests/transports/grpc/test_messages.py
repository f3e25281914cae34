"""Requests that nobody should send, and limits that are REST's as well."""

import math
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import FieldProblem, InvalidRequest
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.messages import fields_of
from service.transports.grpc.questions import read
from service.transports.offers import OFFERS
from tests.transports.grpc.server_fake import Grpc, refused
from tests.transports.rest.service_fake import IMAGE

KINDS: dict[str, Any] = {
    "caption": pb.CaptionRequest,
    "answer": pb.AnswerRequest,
    "detect": pb.DetectRequest,
    "segment": pb.SegmentRequest,
    "read": pb.ReadRequest,
    "caption-region": pb.CaptionRegionRequest,
    "generate": pb.GenerateRequest,
}


def test_requests_have_the_fields_that_rest_has() -> None:
    for task, kind in KINDS.items():
        ours = {field.name for field in kind.DESCRIPTOR.fields}
        # A call has a stream of its own; a batch is one.
        assert ours == {"image", "images", *OFFERS[task].request.model_fields} - {"stream"}, task
    stream = {field.name: field.number for field in pb.StreamGenerateRequest.DESCRIPTOR.fields}
    assert stream == {field.name: field.number for field in pb.GenerateRequest.DESCRIPTOR.fields}


def test_responses_have_the_fields_that_rest_has() -> None:
    for task, kind in KINDS.items():
        response = getattr(pb, kind.DESCRIPTOR.name.replace("Request", "Response"))
        assert {field.name for field in response.DESCRIPTOR.fields} == set(OFFERS[task].response.model_fields), task


def test_fields_are_json_s() -> None:
    message = pb.SegmentRequest(image=b"x", objects=["a", "b"], mask_format=pb.MASK_FORMAT_POLYGON, resolution=pb.RESOLUTION_896, seed=0)
    assert fields_of(message) == {"image": b"x", "objects": ["a", "b"], "mask_format": "polygon", "resolution": 896, "seed": 0}
    assert fields_of(pb.CaptionRegionRequest(box=pb.Box(x_max=3, y_max=4)))["box"] == {"x_min": 0, "y_min": 0, "x_max": 3, "y_max": 4}
    assert fields_of(pb.ReadRequest(resolution=pb.RESOLUTION_AUTO)) == {"resolution": "auto"}


BAD: dict[str, tuple[Message, str]] = {
    "no picture": (pb.ReadRequest(), "image"),
    "no objects": (pb.DetectRequest(image=IMAGE), "objects"),
    "seventeen objects": (pb.DetectRequest(image=IMAGE, objects=["x"] * 17), "objects"),
    "thousands of objects": (pb.DetectRequest(image=IMAGE, objects=[""] * 9000), "objects"),
    "an empty name": (pb.DetectRequest(image=IMAGE, objects=["x", ""]), "objects.1"),
    "no question": (pb.AnswerRequest(image=IMAGE), "question"),
    "a long question": (pb.AnswerRequest(image=IMAGE, question="x" * 8193), "question"),
    "a long prompt": (pb.GenerateRequest(image=IMAGE, prompt="x" * 8193), "prompt"),
    "no box": (pb.CaptionRegionRequest(image=IMAGE), "box"),
    "a box that is none": (pb.CaptionRegionRequest(image=IMAGE, box=pb.Box(x_min=math.nan, x_max=1)), "box.x_min"),
    "no number": (pb.ReadRequest(image=IMAGE, temperature=math.nan), "temperature"),
    "too hot": (pb.ReadRequest(image=IMAGE, temperature=2.5), "temperature"),
    "an infinite number": (pb.ReadRequest(image=IMAGE, top_p=math.inf), "top_p"),
    "no tokens": (pb.ReadRequest(image=IMAGE, max_tokens=0), "max_tokens"),
    "too many tokens": (pb.ReadRequest(image=IMAGE, max_tokens=1025), "max_tokens"),
    "a negative seed": (pb.ReadRequest(image=IMAGE, seed=-1), "seed"),
    "no time": (pb.ReadRequest(image=IMAGE, timeout_ms=0), "timeout_ms"),
    "an unknown style": (pb.CaptionRequest(image=IMAGE, style=99), "style"),  # type: ignore[arg-type]
    "an unknown resolution": (pb.ReadRequest(image=IMAGE, resolution=300), "resolution"),  # type: ignore[arg-type]
    "a long name": (pb.ReadRequest(image=IMAGE, model="x" * 257), "model"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_fields_are_named(server: Grpc, name: str) -> None:
    message, field = BAD[name]
    error = refused(getattr(server.stub, type(message).__name__.removesuffix("Request")), message)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.details()).startswith(f"{field}: ")
    assert server.fake.calls == []


def values_of(field: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of a message may hold."""
    kinds = {
        field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        field.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
        field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.TYPE_DOUBLE: st.floats(),
        field.TYPE_BOOL: st.booleans(),
    }
    if field.type in kinds:
        return kinds[field.type]
    if field.type == field.TYPE_BYTES:
        return st.lists(st.binary(max_size=20), max_size=20) if field.is_repeated else st.binary(max_size=20)
    if field.type == field.TYPE_MESSAGE:
        return st.fixed_dictionaries({}, optional={each.name: values_of(each) for each in field.message_type.fields})
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    return st.lists(text, max_size=20) if field.is_repeated else text


@pytest.mark.parametrize("task", KINDS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_threat_35_no_request_breaks_the_reading(task: str, data: st.DataObject) -> None:
    kind = KINDS[task]
    fields = data.draw(st.fixed_dictionaries({}, optional={field.name: values_of(field) for field in kind.DESCRIPTOR.fields}))
    message = kind.FromString(kind(**fields).SerializeToString())
    named: tuple[FieldProblem, ...] | None = None
    try:
        question = read(task, message, 5.0)
    except InvalidRequest as error:
        named = error.fields
    else:
        assert question.image
        assert question.options.timeout is not None
        assert 0 < question.options.timeout <= 5.0
        assert math.isfinite(question.options.temperature)
    assert named != ()

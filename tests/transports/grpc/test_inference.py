"""``inference.GRPCInferenceService`` over the fake service."""

import json
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from service.errors import Draining
from service.transports.grpc.generated import inference_pb2 as pb
from service.transports.grpc.generated import inference_pb2_grpc
from service.transports.inference.tensors import pack, unpack
from tests.transports.grpc.server_fake import Grpc, refused
from tests.transports.rest.service_fake import IMAGE


@pytest.fixture
def stub(server: Grpc) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)  # type: ignore[no-untyped-call]


def infer(images: Sequence[bytes] = (IMAGE,), prompts: Sequence[bytes] = (b"caption en",), raw: bool = False) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="fake-224", id="mine")
    for name, elements in (("image", images), ("prompt", prompts)):
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(elements)])
        if raw:
            request.raw_input_contents.append(pack(elements))
        else:
            tensor.contents.bytes_contents.extend(elements)
    return request


def test_health_and_metadata(server: Grpc, stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    ready = [stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready for name, version in MODELS]
    assert ready == [True, True, False, False]
    told = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (told.name, list(told.extensions)) == ("paliserve", ["binary_tensor_data"])
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="fake-224"))
    assert (model.name, list(model.versions), model.platform) == ("fake-224", ["1"], "paliserve_paligemma")
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("image", "BYTES", [-1]), ("prompt", "BYTES", [-1])]
    server.service.refusal, server.service.lives = Draining("Stopping."), False
    assert not stub.ServerLive(pb.ServerLiveRequest()).live
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="fake-224")).ready


MODELS = [("fake-224", ""), ("fake-224", "1"), ("fake-224", "2"), ("no", "")]


@pytest.mark.parametrize("raw", [False, True])
def test_the_answer_is_written_as_the_request_was(server: Grpc, stub: Any, raw: bool) -> None:
    response = stub.ModelInfer(infer([IMAGE, b"other"], [b"a", b"b"], raw))
    assert (response.model_name, response.model_version, response.id) == ("fake-224", "1", "mine")
    text, result = response.outputs
    assert (text.name, text.datatype, list(text.shape)) == ("text", "BYTES", [2])
    elements = unpack("text", response.raw_output_contents[0]) if raw else list(text.contents.bytes_contents)
    assert elements == [b" some text "] * 2
    results = unpack("result", response.raw_output_contents[1]) if raw else list(result.contents.bytes_contents)
    assert [json.loads(each)["model"] for each in results] == ["fake-224"] * 2
    assert {call[1] for call in server.fake.calls} == {IMAGE, b"other"}


def test_wanted_outputs_and_parameters(server: Grpc, stub: Any) -> None:
    request = infer()
    request.outputs.add(name="result")
    for name, kind, value in (
        ("max_tokens", "int64_param", 5),
        ("strict", "bool_param", True),
        ("temperature", "double_param", 0.5),
        ("seed", "uint64_param", 7),
        ("top_p", "string_param", "0.25"),
    ):
        setattr(request.parameters[name], kind, value)
    assert [output.name for output in stub.ModelInfer(request).outputs] == ["result"]
    options = server.fake.calls[0][2]
    assert (options.max_tokens, options.strict, options.temperature, options.seed, options.top_p) == (5, True, 0.5, 7, 0.25)


def test_the_calls_deadline_is_that_of_each_prompt(server: Grpc, stub: Any) -> None:
    stub.ModelInfer(infer(prompts=[b"a", b"b"]), timeout=20)
    assert all(10 < call[2].timeout < 21 for call in server.fake.calls)


def changed(**fields: Any) -> pb.ModelInferRequest:
    request = infer()
    request.MergeFrom(pb.ModelInferRequest(**fields))
    return request


BAD: dict[str, tuple[pb.ModelInferRequest, grpc.StatusCode, str]] = {
    "an unknown model": (changed(model_name="no"), grpc.StatusCode.NOT_FOUND, "no such model"),
    "an unknown version": (changed(model_version="2"), grpc.StatusCode.NOT_FOUND, "no such version"),
    "an unknown output": (changed(outputs=[{"name": "boxes"}]), grpc.StatusCode.INVALID_ARGUMENT, "no such output"),
    "an unknown parameter": (changed(parameters={"colour": {"int64_param": 1}}), grpc.StatusCode.INVALID_ARGUMENT, "no such parameter"),
    "too few raw pieces": (changed(raw_input_contents=[b""]), grpc.StatusCode.INVALID_ARGUMENT, "one piece for each input"),
    "three inputs": (changed(inputs=[{"name": "more"}]), grpc.StatusCode.INVALID_ARGUMENT, "nothing else"),
    "too many elements": (infer([b""] * 10_000), grpc.StatusCode.INVALID_ARGUMENT, "at most 64 elements"),
    "other numbers of each": (infer([IMAGE] * 2), grpc.StatusCode.INVALID_ARGUMENT, "as many pictures"),
    "bytes that end early": (
        pb.ModelInferRequest(
            model_name="fake-224", inputs=[{"name": "image", "datatype": "BYTES", "shape": [1]}], raw_input_contents=[b"\x09"]
        ),
        grpc.StatusCode.INVALID_ARGUMENT,
        "end within an element",
    ),
    "nothing": (pb.ModelInferRequest(model_name="fake-224"), grpc.StatusCode.INVALID_ARGUMENT, "this input is needed"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(server: Grpc, stub: Any, name: str) -> None:
    request, status, words = BAD[name]
    error = refused(stub.ModelInfer, request)
    assert error.code() is status
    assert words in str(error.details())
    assert server.fake.calls == []
    assert 'task="infer",transport="grpc"} 1.0' in server.counted()[0]

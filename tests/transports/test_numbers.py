"""Numbers that are none, over every transport alike."""

import json
import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.transports.grpc.generated import inference_pb2, inference_pb2_grpc
from service.transports.grpc.generated import paligemma_pb2 as pb
from tests.transports.grpc.server_fake import Grpc
from tests.transports.rest.service_fake import IMAGE, IMAGE_TEXT, Rest

FIELDS = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0)}
"""Each with the least and the most that is taken."""

NUMBERS = [math.nan, math.inf, -math.inf, -1e-300, 1e300, 2.0000001, 5e-324, -0.0, 0.0, 1.0]


def fits(name: str, value: float) -> bool:
    least, most = FIELDS[name]
    return (least < value if name == "top_p" else least <= value) and value <= most


def by_rest(rest: Rest, name: str, value: float) -> dict[str, int]:
    """The status in every form of REST."""
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": IMAGE_TEXT}}]
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [IMAGE_TEXT]},
        {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["x"]},
    ]
    infer = "/v2/models/fake-224/infer"
    bodies: dict[str, tuple[str, Any]] = {
        "json": ("/v1/read", {"image": IMAGE_TEXT, name: value}),
        "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}], name: value}),
        "infer": (infer, {"inputs": inputs, "parameters": {name: value}}),
        "infer, as text": (infer, {"inputs": inputs, "parameters": {name: str(value)}}),
    }
    found = {}
    for form, (path, body) in bodies.items():
        response = rest.call("POST", path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
        found[form] = response.status_code
    found["form"] = rest.form("read", {name: str(value)}).status_code
    batch = json.dumps({"image": IMAGE_TEXT, "requests": [{"task": "read", name: value}]}).encode()
    response = rest.call("POST", "/v1/batch", content=batch, headers={"content-type": "application/json"})
    found["batch"] = response.status_code if response.status_code != 200 else response.json()["results"][0]["status"]
    return found


def by_grpc(server: Grpc, name: str, value: float) -> dict[str, grpc.StatusCode]:
    """The status in every form of gRPC."""
    infer = inference_pb2.ModelInferRequest(model_name="fake-224")
    for tensor, data in (("image", IMAGE), ("prompt", b"x")):
        infer.inputs.add(name=tensor, datatype="BYTES", shape=[1]).contents.bytes_contents.append(data)
    infer.parameters[name].double_param = value
    inference: Any = inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)  # type: ignore[no-untyped-call]
    fields: dict[str, Any] = {name: value}
    asked: dict[str, Callable[[], object]] = {
        "unary": lambda: server.stub.Read(pb.ReadRequest(image=IMAGE, **fields)),
        "stream": lambda: list(server.stub.StreamGenerate(pb.StreamGenerateRequest(image=IMAGE, prompt="x", **fields))),
        "infer": lambda: inference.ModelInfer(infer),
    }
    found = {}
    for form, call in asked.items():
        try:
            call()
            found[form] = grpc.StatusCode.OK
        except grpc.RpcError as error:
            found[form] = error.code()
    (answer,) = server.stub.Batch(iter([pb.BatchRequest(read=pb.ReadRequest(image=IMAGE, **fields))]))
    refused = answer.WhichOneof("outcome") == "error"
    found["batch"] = grpc.StatusCode.INVALID_ARGUMENT if refused else grpc.StatusCode.OK
    return found


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("name", FIELDS)
def test_threat_35_a_number_is_taken_or_refused_by_all(rest: Rest, server: Grpc, name: str, value: float) -> None:
    rest_found, grpc_found = by_rest(rest, name, value), by_grpc(server, name, value)
    if fits(name, value):
        assert set(rest_found.values()) == {200}, rest_found
        assert set(grpc_found.values()) == {grpc.StatusCode.OK}, grpc_found
    else:
        assert set(rest_found.values()) <= {400, 422}, rest_found
        assert set(grpc_found.values()) == {grpc.StatusCode.INVALID_ARGUMENT}, grpc_found
        assert not rest.fake.calls
        assert not server.fake.calls


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FIELDS)), value=st.floats())
def test_threat_35_any_number_over_both(rest: Rest, server: Grpc, name: str, value: float) -> None:
    good = fits(name, value)
    response = rest.raw("read", json.dumps({"image": IMAGE_TEXT, name: value}).encode())
    assert (response.status_code == 200) == good
    fields: dict[str, Any] = {name: value}
    try:
        server.stub.Read(pb.ReadRequest(image=IMAGE, **fields))
        taken = True
    except grpc.RpcError:
        taken = False
    assert taken == good


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1.0])
@pytest.mark.parametrize("side", ["x_min", "y_min", "x_max", "y_max"])
def test_threat_35_a_box_of_no_numbers(rest: Rest, server: Grpc, side: str, value: float) -> None:
    box: dict[str, Any] = {"x_min": 1.0, "y_min": 2.0, "x_max": 30.0, "y_max": 40.0} | {side: value}
    content = json.dumps({"image": IMAGE_TEXT, "box": box}).encode()
    assert rest.raw("caption-region", content).status_code in (400, 422)
    assert rest.form("caption-region", {"box": json.dumps(box)}).status_code in (400, 422)
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.CaptionRegion(pb.CaptionRegionRequest(image=IMAGE, box=pb.Box(**box)))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["max_tokens", "top_k", "seed", "timeout_ms", "temperature", "top_p"])
@pytest.mark.parametrize("value", [True, False, "5", [5], {}, 2**70, -(2**70), 1e30, 0.5e-30])
def test_threat_35_what_is_no_number_of_its_kind(rest: Rest, name: str, value: object) -> None:
    status = rest.raw("read", json.dumps({"image": IMAGE_TEXT, name: value}).encode()).status_code
    allowed = name in FIELDS and isinstance(value, float) and value < 1
    assert status == (200 if allowed else 422)

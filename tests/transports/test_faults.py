"""Something breaks, anywhere: whoever asked is told that it did, under its request's id, and nothing else."""

import json
import re
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.tasks.streaming import TokenEvent
from service.transports.grpc.generated import inference_pb2, inference_pb2_grpc
from service.transports.grpc.generated import paligemma_pb2 as pb
from tests.transports.grpc.server_fake import Grpc
from tests.transports.rest.served import Served, with_server
from tests.transports.rest.service_fake import IMAGE, IMAGE_TEXT, Rest

SECRET = "<_io.BytesIO object at 0x7f3a5c001230> in /work/secret/engine.py"
TELLTALE = re.compile(r"0x[0-9a-f]{6,}|Traceback|RuntimeError|BytesIO|/work/|/usr/|site-packages|\.py\b|line \d+|secret")

JSON_BODY = json.dumps({"image": IMAGE_TEXT}).encode()
STREAM_BODY = json.dumps({"image": IMAGE_TEXT, "stream": True}).encode()
BATCH_BODY = json.dumps({"image": IMAGE_TEXT, "requests": [{"task": "read"}]}).encode()
FORM_BODY = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + IMAGE + b"\r\n--edge--\r\n"
PARTS = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": IMAGE_TEXT}}]
CHAT_BODY = json.dumps({"messages": [{"role": "user", "content": PARTS}]}).encode()
TENSORS = [("image", IMAGE_TEXT), ("prompt", "x")]
INFER_BODY = json.dumps({"inputs": [{"name": n, "datatype": "BYTES", "shape": [1], "data": [d]} for n, d in TENSORS]}).encode()
READ = ("POST", "/v1/read", JSON_BODY)
INFER = ("POST", "/v2/models/fake-224/infer", INFER_BODY)
CHAT = ("POST", "/v1/chat/completions", CHAT_BODY)

REST_FAULTS: dict[str, tuple[str, tuple[str, str, bytes]]] = {
    "counting what is held": ("service.transports.budget.Hold.take", READ),
    "reading JSON": ("service.transports.rest.bodies.from_json", READ),
    "decoding base64": ("service.transports.rest.bodies._base64", READ),
    "reading a form": ("service.transports.rest.forms._form_fields", ("POST", "/v1/read", FORM_BODY)),
    "checking fields": ("service.transports.offers.Offer.read", READ),
    "putting the question": ("service.transports.requests.TaskRequest.options", READ),
    "the task": ("tests.transports.rest.service_fake.FakeTasks.read", READ),
    "the task of a stream": ("tests.transports.rest.service_fake.FakeTasks.read", ("POST", "/v1/read", STREAM_BODY)),
    "writing an event": ("service.transports.rest.events.TaskEvents.write", ("POST", "/v1/read", STREAM_BODY)),
    "the task of a batch": ("tests.transports.rest.service_fake.FakeTasks.read", ("POST", "/v1/batch", BATCH_BODY)),
    "the pictures of a batch": ("service.transports.rest.batch._Images.of", ("POST", "/v1/batch", BATCH_BODY)),
    "reading a chat": ("service.transports.rest.chat.read_chat", CHAT),
    "the task of a chat": ("tests.transports.rest.service_fake.FakeTasks.generate", CHAT),
    "writing a chat": ("service.transports.rest.chat.completion", CHAT),
    "reading tensors": ("service.transports.rest.inference_bodies.check", INFER),
    "answering tensors": ("service.transports.rest.inference.answer", INFER),
    "writing tensors": ("service.transports.rest.inference.write_infer", INFER),
    "an error's document": ("service.transports.rest.problems.of_error", ("POST", "/v1/read", b"{")),
    "a missing path's document": ("service.transports.rest.problems.of_http", ("GET", "/nowhere", b"")),
    "asking whether it is ready": ("tests.transports.rest.service_fake.FakeService.ready", ("GET", "/readyz", b"")),
    "asking whether it lives": ("tests.transports.rest.service_fake.FakeService.alive", ("GET", "/livez", b"")),
    "asking for room": ("tests.transports.rest.service_fake.FakeService.room", READ),
    "listing models": ("tests.transports.rest.service_fake.FakeService.models", ("GET", "/v1/models", b"")),
    "finding a model": ("tests.transports.rest.service_fake.FakeService.model", ("GET", "/v1/models/fake-224", b"")),
    "a model's metadata": ("tests.transports.rest.service_fake.FakeService.model", ("GET", "/v2/models/fake-224", b"")),
    "the metrics": ("service.observability.metrics.Metrics.exposition", ("GET", "/metrics", b"")),
    "the document": ("service.transports.rest.application.describe", ("GET", "/openapi.json", b"")),
    "beginning a visit": ("service.transports.rest.visits.identity", READ),
    "closing a visit": ("service.transports.visits.VisitBook.close", ("POST", "/v1/read", b"{")),
    "draining": ("service.transports.rest.middleware._announces_body", READ),
}
"""For each what breaks, and a request that comes to it."""


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize("name", REST_FAULTS)
def test_threat_59_whatever_breaks_behind_http_tells_nothing_of_itself(rest: Rest, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    where, (method, path, body) = REST_FAULTS[name]
    kind = "multipart/form-data; boundary=edge" if body is FORM_BODY else "application/json"
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    rest.fake.events = [TokenEvent("x", 0)]
    entered: list[str] = []

    def noted(*arguments: Any, **named: Any) -> Any:
        entered.append(where)
        return broken()

    monkeypatch.setattr(where, noted)

    async def ask(served: Served) -> bytes:
        return await served.ask(head.encode() + body)

    answer = with_server(rest.application, rest.metrics, ask).decode()
    assert entered
    assert re.match(r"HTTP/1\.1 (200|400|500) ", answer), answer
    assert not TELLTALE.search(answer), answer
    if answer.startswith("HTTP/1.1 200"):
        # An event stream, or a batch, which had begun: or what nobody waits for.
        assert '"internal"' in answer


def test_threat_59_a_protocol_that_breaks_tells_nothing(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.transports.rest.framing.Framing._check_request", broken)

    async def ask(served: Served) -> bytes:
        return await served.ask(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")

    assert not TELLTALE.search(with_server(rest.application, rest.metrics, ask).decode())


def tensors() -> inference_pb2.ModelInferRequest:
    request = inference_pb2.ModelInferRequest(model_name="fake-224")
    for name, data in (("image", IMAGE), ("prompt", b"x")):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    return request


def inference(server: Grpc) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)  # type: ignore[no-untyped-call]


def health(server: Grpc) -> Any:
    return health_pb2_grpc.HealthStub(server.channel)


ASKED: dict[str, Callable[[Grpc], Any]] = {
    "unary": lambda server: server.stub.Read(pb.ReadRequest(image=IMAGE)),
    "stream": lambda server: list(server.stub.StreamGenerate(pb.StreamGenerateRequest(image=IMAGE, prompt="x"))),
    "batch": lambda server: list(server.stub.Batch(iter([pb.BatchRequest(read=pb.ReadRequest(image=IMAGE))]))),
    "models": lambda server: server.stub.ListModels(pb.ListModelsRequest()),
    "infer": lambda server: inference(server).ModelInfer(tensors()),
    "metadata": lambda server: inference(server).ModelMetadata(inference_pb2.ModelMetadataRequest(name="fake-224")),
    "health": lambda server: health(server).Check(health_pb2.HealthCheckRequest()),
    "watch": lambda server: list(health(server).Watch(health_pb2.HealthCheckRequest())),
    "ready": lambda server: inference(server).ServerReady(inference_pb2.ServerReadyRequest()),
}
GRPC_FAULTS = {
    "counting what is held": ("service.transports.budget.Hold.take", "unary"),
    "reading a message": ("service.transports.grpc.receiving.decoded", "unary"),
    "checking fields": ("service.transports.grpc.questions.fields_of", "unary"),
    "asking for room": ("tests.transports.rest.service_fake.FakeService.room", "unary"),
    "the task": ("tests.transports.rest.service_fake.FakeTasks.read", "unary"),
    "closing a visit": ("service.transports.visits.VisitBook.close", "unary"),
    "the task of a stream": ("tests.transports.rest.service_fake.FakeTasks.generate", "stream"),
    "writing an event": ("service.transports.grpc.servicer._written", "stream"),
    "the task of a batch": ("tests.transports.rest.service_fake.FakeTasks.read", "batch"),
    "reading a batch": ("service.transports.grpc.batch.Batch._image_of", "batch"),
    "an error of a batch": ("service.transports.grpc.batch.read", "batch"),
    "listing models": ("tests.transports.rest.service_fake.FakeService.models", "models"),
    "reading tensors": ("service.transports.grpc.inference._read_tensors", "infer"),
    "answering tensors": ("service.transports.grpc.inference.answer", "infer"),
    "writing tensors": ("service.transports.grpc.inference.pack", "infer"),
    "a model's metadata": ("service.transports.grpc.inference.ModelMetadata", "metadata"),
    "asking whether it is ready": ("tests.transports.rest.service_fake.FakeService.ready", "ready"),
    "asking about health": ("service.transports.grpc.health.Health._state", "health"),
    "watching health": ("service.transports.grpc.health.Health._state", "watch"),
}


@pytest.mark.parametrize("name", GRPC_FAULTS)
def test_threat_59_whatever_breaks_behind_grpc_tells_nothing_of_itself(server: Grpc, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    where, asked = GRPC_FAULTS[name]
    server.fake.events = [TokenEvent("x", 0)]
    entered: list[str] = []

    def noted(*arguments: Any, **named: Any) -> Any:
        entered.append(where)
        return broken()

    monkeypatch.setattr(where, noted)
    try:
        told = str(ASKED[asked](server))
    except grpc.RpcError as error:
        call: Any = error
        assert call.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        told = f"{call.details()} {call.trailing_metadata()}"
    assert entered
    assert not TELLTALE.search(told), told

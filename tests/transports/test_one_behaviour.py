"""One behaviour: every task and every error through every form that can ask for it, compared with one another and with the contract."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from service import errors
from service.tasks.asks import Options
from service.tasks.streaming import TokenEvent
from service.transports.grpc.generated import inference_pb2, inference_pb2_grpc
from service.transports.grpc.generated import paligemma_pb2 as pb
from tests.transports.grpc.server_fake import Grpc, refused
from tests.transports.rest.service_fake import BOX, IMAGE, IMAGE_TEXT, OWN_FIELDS, Rest

OPTIONS: dict[str, Any] = {
    "model": "fake-224", "max_tokens": 7, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "seed": 11, "strict": True, "timeout_ms": 1500,
}  # fmt: skip
ASKED = Options(model="fake-224", max_tokens=7, temperature=0.5, top_p=0.25, top_k=3, seed=11, strict=True, timeout=1.5)

Body = dict[str, Any]


class Forms:
    """Everything that can be asked, in each of its forms. Each gives the JSON of a task's response, or (status, code) of an error."""

    def __init__(self, rest: Rest, server: Grpc) -> None:
        self.rest, self.server = rest, server
        self.inference: Any = inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)  # type: ignore[no-untyped-call]

    def json(self, task: str, fields: Body) -> Body:
        return self._whole(self.rest.call("POST", f"/v1/{task}", json={"image": IMAGE_TEXT} | fields))

    def form(self, task: str, fields: Body) -> Body:
        texts = {name: value if isinstance(value, list) else json.dumps(value).strip('"') for name, value in fields.items()}
        return self._whole(self.rest.form(task, texts))

    def events(self, task: str, fields: Body) -> Body:
        response = self.rest.call("POST", f"/v1/{task}", json={"image": IMAGE_TEXT, "stream": True} | fields)
        if response.status_code != 200:
            return self._whole(response)
        body: Body = json.loads(response.text.partition("event: result\ndata: ")[2])
        return body

    def batch(self, task: str, fields: Body) -> Body:
        body = {"image": IMAGE_TEXT, "requests": [{"task": task} | fields]}
        (result,) = self.rest.call("POST", "/v1/batch", json=body).json()["results"]
        told: Body = result["response"] if "response" in result else {"http": result["status"], "code": result["error"]["code"]}
        return told

    def chat(self, task: str, fields: Body, stream: bool = False) -> Body:
        parts = [{"type": "text", "text": fields["prompt"]}, {"type": "image_url", "image_url": {"url": IMAGE_TEXT}}]
        body = {key: value for key, value in fields.items() if key != "prompt"} | {"messages": [{"role": "user", "content": parts}]}
        response = self.rest.call("POST", "/v1/chat/completions", json=body | {"stream": stream, "stream_options": {"include_usage": True}})
        if response.status_code != 200:
            assert response.json()["error"]["code"] == response.json()["code"]
            return self._whole(response)
        if not stream:
            (choice,) = response.json()["choices"]
            return self._of_chat(choice["message"]["content"], choice, choice["message"]["paligemma"], response.json())
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        deltas = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        text = "".join(each["delta"].get("content", "") for each in deltas)
        return self._of_chat(text, deltas[-1], deltas[-1]["delta"]["paligemma"], chunks[-1])

    def chat_chunks(self, task: str, fields: Body) -> Body:
        return self.chat(task, fields, stream=True)

    def infer(self, task: str, fields: Body) -> Body:
        inputs = [
            {"name": name, "datatype": "BYTES", "shape": [1], "data": [data]}
            for name, data in (("image", IMAGE_TEXT), ("prompt", fields["prompt"]))
        ]
        parameters = {key: value for key, value in fields.items() if key not in ("prompt", "model")}
        response = self.rest.call("POST", "/v2/models/fake-224/infer", json={"inputs": inputs, "parameters": parameters})
        if response.status_code != 200:
            assert isinstance(response.json()["error"], str)
            return self._whole(response)
        body: Body = json.loads(response.json()["outputs"][1]["data"][0])
        return body

    def unary(self, task: str, fields: Body) -> Body:
        name = "".join(word.capitalize() for word in task.split("-"))
        return self._answered(getattr(self.server.stub, name), message(task, fields))

    def grpc_events(self, task: str, fields: Body) -> Body:
        request = pb.StreamGenerateRequest(image=IMAGE, **fields)
        return self._answered(lambda each: list(self.server.stub.StreamGenerate(each))[-1].result, request)

    def grpc_batch(self, task: str, fields: Body) -> Body:
        kind = task.replace("-", "_")
        request: Any = {kind: message(task, fields)}
        (answer,) = self.server.stub.Batch(iter([pb.BatchRequest(id="mine", **request)]))
        assert answer.id == "mine"
        if answer.WhichOneof("outcome") == "error":
            return {"grpc": answer.error.status, "code": answer.error.code}
        return as_json(getattr(answer, kind))

    def grpc_infer(self, task: str, fields: Body) -> Body:
        request = inference_pb2.ModelInferRequest(model_name="fake-224")
        for name, data in (("image", IMAGE), ("prompt", fields["prompt"].encode())):
            request.inputs.add(name=name, datatype="BYTES", shape=[1]).contents.bytes_contents.append(data)
        for name, value in fields.items():
            kind = {bool: "bool_param", int: "int64_param", float: "double_param"}.get(type(value))
            if kind and name not in ("prompt", "model"):
                setattr(request.parameters[name], kind, value)
        answered = self._answered(self.inference.ModelInfer, request)
        body: Body = (
            json.loads(base64.b64decode(answered["outputs"][1]["contents"]["bytes_contents"][0])) if "outputs" in answered else answered
        )
        return body

    def _answered(self, call: Callable[[Any], Any], request: Any) -> Body:
        if self.server.fake.error is None and self.server.service.refusal is None:
            return as_json(call(request))
        error = refused(call, request)
        status: Any = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.domain == "paliserve"
        return {"grpc": status.code, "code": info.reason.lower()}

    @staticmethod
    def _of_chat(text: str, choice: Body, found: Body, body: Body) -> Body:
        usage = body["usage"]
        tokens = {
            "image_tokens": usage["prompt_tokens_details"]["image_tokens"],
            "prompt_tokens": usage["prompt_tokens_details"]["text_tokens"],
            "completion_tokens": usage["completion_tokens"],
        }
        return {"text": text, "model": body["model"], "finish_reason": choice["finish_reason"], "usage": tokens} | found

    @staticmethod
    def _whole(response: Any) -> Body:
        body: Body = response.json()
        return body if response.status_code == 200 else {"http": response.status_code, "code": body["code"]}


def message(task: str, fields: Body) -> Any:
    kind = getattr(pb, "".join(word.capitalize() for word in task.split("-")) + "Request")
    return kind(image=IMAGE, **fields)


def as_json(told: Any) -> Body:
    """A message as REST would write it."""
    body: Body = MessageToDict(told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if "finish_reason" in body:
        body["finish_reason"] = body["finish_reason"].removeprefix("FINISH_REASON_").lower()
    for segment in body.get("segments", []):
        mask = segment["mask"]["rle"]
        segment["mask"] = {"format": "rle", "size": [mask["height"], mask["width"]], "counts": mask["counts"]}
    return body


EVERY = ("json", "form", "events", "batch", "unary", "grpc_batch")
OF_GENERATE = ("chat", "chat_chunks", "infer", "grpc_events", "grpc_infer")
FORMS = [*((task, form) for task in OWN_FIELDS for form in EVERY), *(("generate", form) for form in OF_GENERATE)]


@pytest.fixture
def forms(rest: Rest, server: Grpc) -> Forms:
    return Forms(rest, server)


@pytest.mark.parametrize(("task", "form"), FORMS)
def test_every_form_asks_and_answers_the_same(forms: Forms, task: str, form: str) -> None:
    forms.rest.fake.events = [TokenEvent(" some text ", 0)]
    fields = OWN_FIELDS[task] | OPTIONS
    expected = forms.json(task, fields)
    told = getattr(forms, form)(task, fields)
    # Ids differ by nature; what a form has no word for it leaves out.
    for body in (expected, told):
        body.pop("id", None)
    assert told
    assert told.items() <= expected.items()
    assert form in ("chat", "chat_chunks") or told == expected
    first, *_ = forms.rest.fake.calls
    last = (forms.rest.fake.calls[1:] or forms.server.fake.calls)[-1]
    asked = replace(last[2], listener=None)
    assert asked == first[2] == ASKED
    assert (*last[:2], *last[3:]) == (*first[:2], *first[3:])


CONTRACT: dict[type[errors.PaliServeError], tuple[str, int, grpc.StatusCode]] = {
    errors.MalformedBody: ("invalid_request", 400, grpc.StatusCode.INVALID_ARGUMENT),
    errors.InvalidRequest: ("invalid_request", 422, grpc.StatusCode.INVALID_ARGUMENT),
    errors.InvalidImage: ("invalid_image", 422, grpc.StatusCode.INVALID_ARGUMENT),
    errors.UnsupportedMediaType: ("unsupported_media_type", 415, grpc.StatusCode.INVALID_ARGUMENT),
    errors.ImageTooLarge: ("image_too_large", 413, grpc.StatusCode.INVALID_ARGUMENT),
    errors.RequestTooLarge: ("request_too_large", 413, grpc.StatusCode.INVALID_ARGUMENT),
    errors.PromptTooLong: ("prompt_too_long", 422, grpc.StatusCode.INVALID_ARGUMENT),
    errors.ImageUrlForbidden: ("image_url_forbidden", 403, grpc.StatusCode.PERMISSION_DENIED),
    errors.ImageUrlFailed: ("image_url_failed", 422, grpc.StatusCode.INVALID_ARGUMENT),
    errors.Unauthenticated: ("unauthenticated", 401, grpc.StatusCode.UNAUTHENTICATED),
    errors.PermissionDenied: ("permission_denied", 403, grpc.StatusCode.PERMISSION_DENIED),
    errors.ModelNotFound: ("model_not_found", 404, grpc.StatusCode.NOT_FOUND),
    errors.AdapterNotFound: ("adapter_not_found", 404, grpc.StatusCode.NOT_FOUND),
    errors.RateLimited: ("rate_limited", 429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    errors.Overloaded: ("overloaded", 503, grpc.StatusCode.UNAVAILABLE),
    errors.Draining: ("draining", 503, grpc.StatusCode.UNAVAILABLE),
    errors.ModelNotReady: ("model_not_ready", 503, grpc.StatusCode.UNAVAILABLE),
    errors.DeadlineExceeded: ("deadline_exceeded", 504, grpc.StatusCode.DEADLINE_EXCEEDED),
    errors.GenerationFailed: ("internal", 500, grpc.StatusCode.INTERNAL),
}
"""The contract's table, written down once more: what the outside may rely on does not follow the code."""


@pytest.mark.parametrize("form", [*EVERY, *OF_GENERATE])
@pytest.mark.parametrize("kind", [*CONTRACT, RuntimeError])
def test_every_form_fails_the_same(forms: Forms, kind: type[Exception], form: str) -> None:
    error = kind("Busy.", 1.0) if kind in (errors.Overloaded, errors.RateLimited) else kind("What was wrong.")
    forms.rest.fake.error = forms.server.fake.error = error
    code, http, status = ("internal", 500, grpc.StatusCode.INTERNAL) if kind is RuntimeError else CONTRACT[kind]  # type: ignore[index]
    told = getattr(forms, form)("generate", OWN_FIELDS["generate"])
    assert told == ({"grpc": status.value[0], "code": code} if form == "unary" or form.startswith("grpc") else {"http": http, "code": code})


@pytest.mark.parametrize("form", [form for form in (*EVERY, *OF_GENERATE) if form not in ("batch", "grpc_batch")])
def test_every_form_refuses_while_the_server_stops(forms: Forms, form: str) -> None:
    forms.rest.service.refusal = forms.server.service.refusal = errors.Draining("Stopping.")
    told = getattr(forms, form)("generate", OWN_FIELDS["generate"])
    assert told["code"] == "draining"
    assert forms.rest.fake.calls == forms.server.fake.calls == []


BAD: list[tuple[str, Body]] = [
    ("detect", {"objects": []}),
    ("detect", {"objects": ["x"] * 17}),
    ("answer", {"question": ""}),
    ("caption", {"max_tokens": 0}),
    ("caption", {"temperature": 2.5}),
    ("caption", {"top_p": 0.0}),
    ("caption", {"top_k": -1}),
    ("caption", {"seed": -1}),
    ("caption", {"timeout_ms": 0}),
    ("caption", {"model": "x" * 257}),
    ("caption-region", {"box": BOX | {"x_min": -1.0}}),
    ("generate", {"prompt": "x" * 8193}),
]


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize(("task", "change"), BAD)
def test_limits_are_the_same(forms: Forms, task: str, change: Body, form: str) -> None:
    # The unary call reads its error only where one is expected.
    forms.server.fake.error = errors.InvalidImage("It came too far.")
    told = getattr(forms, form)(task, OWN_FIELDS[task] | change)
    assert told["code"] == "invalid_request"
    assert told.get("http", told.get("grpc")) in (422, 3)
    assert forms.rest.fake.calls == forms.server.fake.calls == []

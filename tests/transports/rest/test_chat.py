"""OpenAI's chat over a fake service: what reaches the task, what comes back, what is refused and how."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from service.errors import DeadlineExceeded, ModelNotFound, Overloaded, PromptTooLong
from service.tasks.asks import Options
from service.tasks.results import MaskFormat, Piece, TaskResult
from service.tasks.streaming import TokenEvent
from tests.transports.rest.service_fake import DETECTION, IMAGE, IMAGE_TEXT, SEGMENT, Rest, fields_of, problem, result

TEXT = {"type": "text", "text": "detect cat"}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE_TEXT}", "detail": "high"}}
PIECES = (Piece(b" caf", 0.5), Piece(b"\xc3", 0.25), Piece(b"\xa9", 1.0000001), Piece(b"", 0.0))


def message(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def ask(rest: Rest, *content: Any, **fields: Any) -> Any:
    body = {"model": "fake-224", "messages": [message(*(content or (TEXT, PICTURE)))]} | fields
    return rest.call("POST", "/v1/chat/completions", json=body)


def spelled(pieces: tuple[Piece, ...] = PIECES) -> TaskResult:
    told = result("generate", (DETECTION,), (SEGMENT,), text=" café")
    return replace(told, answer=replace(told.answer, pieces=pieces))


def chunks(response: Any) -> list[dict[str, Any]]:
    """All chunks; the stream must end as OpenAI's do."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream"
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_an_answer(rest: Rest) -> None:
    response = ask(rest)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["id"] == f"chatcmpl-{response.headers['x-request-id']}"
    assert (body["object"], body["model"]) == ("chat.completion", "fake-224")
    assert isinstance(body["created"], int)
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == " some text "
    plain = rest.json("generate").json()
    assert choice["message"]["paligemma"] == {"detections": plain["detections"], "segments": plain["segments"]}
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"], body["usage"]["total_tokens"]) == (260, 3, 263)
    assert body["usage"]["prompt_tokens_details"] == {"image_tokens": 256, "text_tokens": 4, "cached_tokens": 0}
    assert rest.fake.calls[0] == ("generate", IMAGE, Options(model="fake-224"), "detect cat")


def test_fields_reach_the_task(rest: Rest) -> None:
    fields = {
        "temperature": 1, "top_p": 0.5, "seed": 7, "max_tokens": 9, "max_completion_tokens": 5, "resolution": 448, "adapter": "mine",
        "top_k": 3, "strict": True, "timeout_ms": 2500, "mask_format": "polygon", "logprobs": True,
    }  # fmt: skip
    assert ask(rest, **fields).status_code == 200
    options = Options("fake-224", 448, "mine", 5, 1.0, 0.5, 3, 7, 2.5, strict=True, pieces=True)
    assert rest.fake.calls == [("generate", IMAGE, options, "detect cat", MaskFormat.POLYGON)]
    ask(rest, max_tokens=9, seed=-1, resolution="auto")
    assert rest.fake.calls[1][2] == Options("fake-224", "auto", max_tokens=9, seed=2**63 - 1)


def test_null_and_what_changes_nothing_is_taken(rest: Rest) -> None:
    fields = {
        "temperature": None, "top_p": None, "seed": None, "max_tokens": None, "stream": None, "stream_options": None, "n": 1, "stop": None,
        "tools": [], "tool_choice": "none", "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}, "logit_bias": {},
        "user": "me", "metadata": {"a": "b"}, "store": True, "modalities": ["text"], "frequency_penalty": 0, "presence_penalty": 0.0,
        "service_tier": "auto", "parallel_tool_calls": True, "something_new": [1], "strict": None, "functions": None, "audio": None,
    }  # fmt: skip
    assert ask(rest, **fields).status_code == 200
    assert rest.fake.calls[0][2] == Options(model="fake-224")


def test_texts_are_joined_whatever_their_order(rest: Rest) -> None:
    ask(rest, {"type": "text", "text": "detect\n"}, PICTURE, {"type": "text", "text": " "}, {"type": "text", "text": "cat"})
    assert rest.fake.calls[0][3] == "detect cat"


@pytest.mark.parametrize("url", [IMAGE_TEXT, {"url": IMAGE_TEXT}, f"data:image/jpeg;base64,{IMAGE_TEXT}"])
def test_pictures_as_clients_write_them(rest: Rest, url: object) -> None:
    assert ask(rest, TEXT, {"type": "image_url", "image_url": url}).status_code == 200
    assert rest.fake.calls[0][1] == IMAGE


def test_a_picture_by_url(rest: Rest) -> None:
    far = {"type": "image_url", "image_url": {"url": "https://images.example.org/x.png"}}
    problem(ask(rest, TEXT, far), 403, "image_url_forbidden")
    rest.service.at_url = b"from afar"
    assert ask(rest, TEXT, far).status_code == 200
    assert rest.fake.calls[0][1] == b"from afar"


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool", "function"])
def test_other_roles_are_refused(rest: Rest, role: str) -> None:
    both = [{"role": role, "content": "You are helpful."}, message(TEXT, PICTURE)]
    for messages in (both, both[::-1], both[:1]):
        body = problem(ask(rest, messages=messages), 400, "unsupported_conversation")
        error = body["error"]
        assert (error["code"], error["param"], error["type"]) == ("unsupported_conversation", "messages", "invalid_request_error")
        assert error["message"] == body["detail"]
        assert role in error["message"]
        assert "conversations" in error["message"]
    assert not rest.fake.calls


def test_two_questions_are_refused(rest: Rest) -> None:
    body = problem(ask(rest, messages=[message(TEXT, PICTURE)] * 2), 400, "unsupported_conversation")
    assert body["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("messages", "field", "word"),
    [
        ([], "messages", "1 item"),
        (None, "messages", "list"),
        ("caption", "messages", "list"),
        ([5], "messages.0", ""),
        ([{"role": "user"}], "messages.0.content", ""),
        ([{"role": "user", "content": "caption en"}], "messages.0.content", "image_url"),
        ([message()], "messages.0.content", ""),
        ([message(TEXT)], "messages.0.content", "there are 0"),
        ([message(TEXT, PICTURE, PICTURE)], "messages.0.content", "there are 2"),
        ([message(PICTURE)], "messages.0.content", "prefix"),
        ([message({"type": "text", "text": " "}, PICTURE)], "messages.0.content", "prefix"),
        ([message(TEXT, {"type": "input_audio", "input_audio": {}})], "messages.0.content.1", ""),
        ([message({"type": "text", "text": 5}, PICTURE)], "messages.0.content.0.text.text", ""),
        ([message(TEXT, {"type": "image_url", "image_url": {"url": "?"}})], "messages.0.content", "base64"),
        ([message(TEXT, PICTURE, role="robot")], "messages.0.role", ""),
        ([message(*[TEXT] * 65)], "messages.0.content", ""),
    ],
)
def test_messages_that_do_not_fit(rest: Rest, messages: object, field: str, word: str) -> None:
    body = problem(ask(rest, messages=messages), 422, "invalid_request")
    assert fields_of(body)[0] == body["error"]["param"] == field
    assert word in body["error"]["message"]
    assert not rest.fake.calls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("n", True), ("top_logprobs", 5), ("stop", "\n"), ("stop", ["a"]), ("tools", [{"type": "function"}]),
        ("tool_choice", "required"), ("tool_choice", {"type": "function"}), ("functions", [{"name": "f"}]), ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]), ("response_format", {"type": "json_object"}), ("response_format", {"type": "json_schema"}),
        ("response_format", "text"), ("frequency_penalty", 0.5), ("presence_penalty", -1), ("logit_bias", {"5": 100}),
        ("prediction", {"type": "content"}), ("web_search_options", {"a": 1}), ("min_tokens", 5),
    ],
)  # fmt: skip
def test_threat_34_what_would_be_missed_is_refused(rest: Rest, name: str, value: object) -> None:
    body = problem(ask(rest, **{name: value}), 400, "unsupported_parameter")
    assert (body["error"]["param"], body["error"]["code"]) == (name, "unsupported_parameter")
    assert body["error"]["message"].startswith(f"{name}: ")
    assert not rest.fake.calls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.5), ("temperature", "hot"), ("top_p", 0), ("seed", 2**63), ("max_tokens", 0), ("max_completion_tokens", 1025),
        ("resolution", 225), ("top_k", -1), ("strict", "yes"), ("timeout_ms", 0), ("mask_format", "bmp"), ("stream", "yes"), ("model", 5),
        ("logprobs", 1), ("model", ""),
    ],
)  # fmt: skip
def test_threat_34_values_out_of_range(rest: Rest, name: str, value: object) -> None:
    body = problem(ask(rest, **{name: value}), 422, "invalid_request")
    assert body["error"]["param"] == name
    assert body["error"]["type"] == "invalid_request_error"


def test_bodies_that_are_none(rest: Rest) -> None:
    for content, status, code in ((b"{", 400, "invalid_request"), (b"", 400, "invalid_request"), (b"[]", 422, "invalid_request")):
        response = rest.call("POST", "/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        assert problem(response, status, code)["error"]["code"] == code
    assert "error" in problem(rest.call("POST", "/v1/chat/completions", content=b"x"), 415, "unsupported_media_type")
    response = rest.call("POST", "/v1/chat/completions", content=b" " * 1_100_000, headers={"content-type": "application/json"})
    assert "error" in problem(response, 413, "request_too_large")


def test_errors_of_the_task(rest: Rest) -> None:
    for error, status, code, kind in (
        (ModelNotFound("No such model; there is fake-224."), 404, "model_not_found", "invalid_request_error"),
        (PromptTooLong("Too long."), 422, "prompt_too_long", "invalid_request_error"),
        (Overloaded("Busy.", 3.0), 503, "overloaded", "server_error"),
        (RuntimeError("the secret"), 500, "internal", "server_error"),
    ):
        rest.fake.error = error
        for stream in (False, True):
            response = ask(rest, stream=stream)
            body = problem(response, status, code)
            assert body["error"] == {"message": body["detail"], "type": kind, "param": None, "code": code}
            assert ("retry-after" in response.headers) == (status == 503)
            assert "secret" not in response.text


def test_logprobs(rest: Rest) -> None:
    rest.fake.results["generate"] = spelled()
    content = ask(rest, logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert [each["token"] for each in content] == [" caf", "\\xc3", "\\xa9", ""]
    assert [each["logprob"] for each in content] == [pytest.approx(math.log(0.5)), pytest.approx(math.log(0.25)), 0.0, -9999.0]
    assert bytes(byte for each in content for byte in each["bytes"]).decode() == " café"
    assert all(each["top_logprobs"] == [] for each in content)


def test_a_stream(rest: Rest) -> None:
    rest.fake.events = [TokenEvent(" ca", 0, model="fake-224"), TokenEvent("fé", 2, model="fake-224")]
    rest.fake.results["generate"] = spelled(())
    response = ask(rest, stream=True)
    told = chunks(response)
    assert {(each["id"], each["object"]) for each in told} == {(f"chatcmpl-{response.headers['x-request-id']}", "chat.completion.chunk")}
    assert {each["model"] for each in told} == {"fake-224"}
    assert len({each["created"] for each in told}) == 1
    assert all("usage" not in each for each in told)
    choices = [each["choices"][0] for each in told]
    assert [each["delta"] for each in choices[:-1]] == [{"role": "assistant", "content": ""}, {"content": " ca"}, {"content": "fé"}]
    assert [each["finish_reason"] for each in choices] == [None, None, None, "stop"]
    assert list(choices[-1]["delta"]) == ["paligemma"]
    plain = ask(rest).json()["choices"][0]["message"]
    assert choices[-1]["delta"]["paligemma"] == plain["paligemma"]
    assert "".join(each["delta"].get("content", "") for each in choices) == plain["content"]


def test_a_stream_without_a_token(rest: Rest) -> None:
    assert [each["choices"][0]["finish_reason"] for each in chunks(ask(rest, stream=True))] == [None, "stop"]


def test_usage_comes_in_a_chunk_of_its_own_where_it_is_asked_for(rest: Rest) -> None:
    rest.fake.events = [TokenEvent("a", 0)]
    told = chunks(ask(rest, stream=True, stream_options={"include_usage": True}))
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == ask(rest).json()["usage"]
    assert chunks(ask(rest, stream=True, stream_options={"include_usage": False}))[-1]["choices"]


def test_logprobs_of_a_stream_are_those_of_the_answer(rest: Rest) -> None:
    rest.fake.events = [TokenEvent(" caf", 0, PIECES[:1]), TokenEvent("é", 2, PIECES[1:3])]
    rest.fake.results["generate"] = spelled()
    told = [each["choices"][0]["logprobs"] for each in chunks(ask(rest, stream=True, logprobs=True))]
    assert told[0] is None
    assert [len(each["content"]) for each in told[1:]] == [1, 2, 1]
    whole = ask(rest, logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert [each for part in told[1:] for each in part["content"]] == whole


def test_an_error_after_the_first_chunk_is_data(rest: Rest) -> None:
    rest.fake.events = [TokenEvent("a", 0)]
    rest.fake.error = DeadlineExceeded("Too late.")
    response = ask(rest, stream=True)
    assert response.status_code == 200
    last = json.loads(response.text.split("\n\n")[-2].removeprefix("data: "))
    assert last["error"] == {"message": "Too late.", "type": "server_error", "param": None, "code": "deadline_exceeded"}
    assert "[DONE]" not in response.text


def test_it_is_counted_as_chat(rest: Rest) -> None:
    ask(rest)
    ask(rest, stream=True)
    assert rest.counted() == ['paliserve_requests_total{code="ok",model="fake-224",task="chat",transport="rest"} 2.0']


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses"])
def test_what_is_not_offered_says_what_is(rest: Rest, path: str) -> None:
    body = problem(rest.call("POST", path, json={"model": "fake-224", "prompt": "x"}), 404, "not_found")
    assert "/v1/chat/completions" in body["error"]["message"]
    assert body["error"]["code"] == "not_found"

"""The official ``openai`` client against a running server, in a process of its own: ``python openai_client.py URL PICTURE``.

Prints "ok NAME" for each check; an exception ends it.
"""

import asyncio
import base64
import math
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

URL, PICTURE = sys.argv[1], base64.b64encode(Path(sys.argv[2]).read_bytes()).decode()
MODEL = "shapes-224"
CAPTION = "a green square, a purple star and a sign"
client = OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60)


def messages(text: str, picture: str = PICTURE) -> Any:
    url = f"data:image/png;base64,{picture}"
    return [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]}]


def check_models() -> None:
    listed = client.models.list().data
    assert [each.id for each in listed] == [MODEL, "shapes-448", "shapes-896"]
    one = client.models.retrieve(MODEL)
    assert (one.id, one.object, one.owned_by) == (MODEL, "model", "paliserve")
    assert isinstance(one.created, int)
    assert one.model_extra is not None
    assert one.model_extra["resolution"] == 224
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("unknown")
    assert caught.value.code == "model_not_found"
    assert MODEL in caught.value.message
    assert caught.value.request_id


def check_answer() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=messages("caption en"), temperature=0, max_completion_tokens=64)
    assert answer.id == f"chatcmpl-{answer._request_id}"
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", CAPTION, "stop")
    usage = answer.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (68, 10, 78)
    assert usage.prompt_tokens_details.image_tokens == 64
    cut = client.chat.completions.create(model=MODEL, messages=messages("caption en"), max_tokens=3)
    assert cut.choices[0].finish_reason == "length"


def check_boxes_and_masks() -> None:
    extra: dict[str, Any] = {"mask_format": "png", "strict": True, "timeout_ms": 30_000, "resolution": 224, "top_k": 1}
    answer = client.chat.completions.create(model=MODEL, messages=messages("segment purple star"), extra_body=extra)
    found = answer.choices[0].message.model_extra
    assert found is not None
    (segment,) = found["paligemma"]["segments"]
    assert (segment["label"], segment["mask"]["format"]) == ("purple star", "png")
    assert segment["box"]["x_min"] < segment["box"]["x_max"]


def check_stream() -> None:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(model=MODEL, messages=messages("detect sign"), stream=True, stream_options=options)
    chunks = list(stream)
    whole = client.chat.completions.create(model=MODEL, messages=messages("detect sign"))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    last = chunks[-2].choices[0]
    assert last.finish_reason == "stop"
    assert last.delta.model_extra is not None
    assert whole.choices[0].message.model_extra is not None
    assert last.delta.model_extra["paligemma"] == whole.choices[0].message.model_extra["paligemma"]
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert len(chunks) > 5


def check_stream_helper() -> None:
    with client.chat.completions.stream(model=MODEL, messages=messages("caption en"), logprobs=True) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert final.choices[0].message.content == CAPTION
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].logprobs is not None
    assert final.choices[0].logprobs.content is not None
    assert "".join(each.token for each in final.choices[0].logprobs.content) == CAPTION


def check_logprobs() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=messages("answer en what color is the star?"), logprobs=True)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert answer.usage is not None
    assert len(logprobs.content) == answer.usage.completion_tokens
    assert bytes(byte for each in logprobs.content for byte in each.bytes or []).decode() == answer.choices[0].message.content
    assert all(each.logprob <= 0 and math.isfinite(each.logprob) for each in logprobs.content)
    assert logprobs.content[0].logprob > math.log(0.5)


def refused(kind: type[openai.APIStatusError], status: int, code: str, param: str | None, **fields: Any) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": messages("caption en")} | fields)
    error = caught.value
    assert (error.status_code, error.code, error.param, error.type) == (status, code, param, "invalid_request_error")
    assert error.request_id
    assert len(error.message) > 20


def check_errors() -> None:
    system = [{"role": "system", "content": "Be brief."}, *messages("caption en")]
    refused(openai.BadRequestError, 400, "unsupported_conversation", "messages", messages=system)
    refused(openai.BadRequestError, 400, "unsupported_parameter", "n", n=2)
    refused(openai.BadRequestError, 400, "unsupported_parameter", "tools", tools=[{"type": "function", "function": {"name": "f"}}])
    refused(openai.UnprocessableEntityError, 422, "invalid_request", "temperature", temperature=3)
    refused(openai.UnprocessableEntityError, 422, "invalid_image", None, messages=messages("caption en", "AAAA"))
    refused(openai.UnprocessableEntityError, 422, "invalid_image", None, messages=messages("caption en", "AAAA"), stream=True)
    refused(openai.NotFoundError, 404, "model_not_found", None, model="gpt-4o")
    refused(openai.UnprocessableEntityError, 422, "prompt_too_long", None, messages=messages("a " * 4000))
    for call in (
        lambda: client.completions.create(model=MODEL, prompt="caption en"),
        lambda: client.responses.create(model=MODEL, input="caption en"),
    ):
        with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
            call()


def check_a_stream_that_is_given_up() -> None:
    """The time runs out while the answer is being written, or before. A machine that is quick enough makes no error."""
    hot: Any = {"temperature": 2, "seed": 3, "max_tokens": 1024, "extra_body": {"timeout_ms": 150}}
    code: object = "deadline_exceeded"
    try:
        for _ in client.chat.completions.create(model=MODEL, messages=messages("describe en"), stream=True, **hot):
            pass
    except openai.APIError as error:
        code = error.code
    assert code == "deadline_exceeded"


async def check_async() -> None:
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0) as several:
        answers = await asyncio.gather(
            *(several.chat.completions.create(model=MODEL, messages=messages("caption en"), seed=seed) for seed in range(8))
        )
        assert {each.choices[0].message.content for each in answers} == {CAPTION}
        stream = await several.chat.completions.create(model=MODEL, messages=messages("caption en"), stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(texts) == CAPTION
        raw = await several.chat.completions.with_raw_response.create(model=MODEL, messages=messages("caption en"))
        assert raw.headers["x-request-id"] == raw.request_id


CHECKS = (
    check_models, check_answer, check_boxes_and_masks, check_stream, check_stream_helper, check_logprobs, check_errors,
    check_a_stream_that_is_given_up,
)  # fmt: skip


def main() -> None:
    for check in CHECKS:
        check()
        print("ok", check.__name__)
    asyncio.run(check_async())
    print("ok", check_async.__name__)


if __name__ == "__main__":
    main()

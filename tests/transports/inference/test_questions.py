"""Tensors to questions, and answers to tensors, without a wire."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from service.errors import InvalidImage, InvalidRequest, ModelNotFound
from service.tasks.asks import Options
from service.tasks.results import MaskFormat
from service.transports.inference.questions import OUTPUTS, answer, check_outputs, check_version, read
from service.transports.inference.tensors import Tensor
from service.transports.visits import Visit
from tests.transports.rest.service_fake import FakeService


def tensor(name: str, *elements: bytes) -> Tensor:
    return Tensor(name, (len(elements),), elements)


def asked(
    images: Sequence[bytes], prompts: Sequence[bytes], parameters: dict[str, Any] | None = None, left: float | None = None
) -> FakeService:
    """The service after it was asked."""
    service = FakeService()
    question = read("fake-224", [tensor("image", *images), tensor("prompt", *prompts)], parameters or {}, left)
    asyncio.run(answer(service, question, Visit()))
    return service


def test_each_prompt_has_its_picture() -> None:
    service = asked([b"A", b"B"], [b"caption en", "ocr é".encode()])
    assert sorted(call[:2] + call[3:] for call in service.fake.calls) == [("generate", b"A", "caption en"), ("generate", b"B", "ocr é")]


def test_one_picture_is_that_of_all() -> None:
    service = asked([b"the picture"], [b"a", b"b", b"c"])
    images = [call[1] for call in service.fake.calls]
    assert images == [b"the picture"] * 3
    # By the object the engine knows that they are one picture.
    assert len({id(image) for image in images}) == 1


def test_parameters_are_those_of_generate_and_may_be_text() -> None:
    parameters = {
        "max_tokens": 5,
        "temperature": "0.5",
        "top_p": 0.25,
        "seed": "7",
        "strict": True,
        "mask_format": "png",
        "timeout_ms": 1500,
    }
    (call,) = asked([b"A"], [b"x"], parameters).fake.calls
    assert call[2] == Options(model="fake-224", max_tokens=5, temperature=0.5, top_p=0.25, seed=7, strict=True, timeout=1.5)
    assert call[4] is MaskFormat.PNG


def test_the_callers_deadline_holds_too() -> None:
    assert asked([b"A"], [b"x"], {"timeout_ms": 5000}, 2.0).fake.calls[0][2].timeout == 2.0
    assert asked([b"A"], [b"x"], {"timeout_ms": 1000}, 2.0).fake.calls[0][2].timeout == 1.0
    assert asked([b"A"], [b"x"], {}, -1.0).fake.calls[0][2].timeout == 0.0


def test_outputs() -> None:
    service, visit = FakeService(), Visit()
    question = read("fake-224", [tensor("image", b"A"), tensor("prompt", b"x", b"y")], {})
    outputs = asyncio.run(answer(service, question, visit))
    assert tuple(outputs) == OUTPUTS
    assert outputs["text"] == (b" some text ", b" some text ")
    body = json.loads(outputs["result"][0])
    assert (body["text"], len(body["detections"]), len(body["segments"])) == (" some text ", 1, 1)
    assert [(part.task, part.code) for part in visit.parts] == [("generate", "ok")] * 2
    assert all(part.answer for part in visit.parts)


@pytest.mark.parametrize(
    ("images", "prompts", "parameters", "words"),
    [
        ([b"A", b"B"], [b"x"], {}, "1 prompts need as many pictures"),
        ([b"A", b"B"], [b"x", b"y", b"z"], {}, "3 prompts need as many pictures"),
        ([b""], [b"x"], {}, "a picture is empty"),
        ([b"A"], [b"\xff"], {}, "element 0 is not UTF-8"),
        ([b"A"], [b"x"], {"colour": 1}, "no such parameter; there are adapter, max_tokens"),
        ([b"A"], [b"x"], {"model": "other"}, "no such parameter"),
        ([b"A"], [b"x"], {"max_tokens": 0}, "max_tokens: "),
        ([b"A"], [b"x"], {"temperature": float("nan")}, "temperature: "),
        ([b"A"], [b"x" * 9000], {}, "prompt: "),
    ],
)
def test_what_is_refused(images: list[bytes], prompts: list[bytes], parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        asked(images, prompts, parameters)


@pytest.mark.parametrize("names", [["image"], ["prompt"], ["image", "prompt", "more"], ["image", "image", "prompt"], []])
def test_inputs_that_are_not_the_two(names: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        read("fake-224", [tensor(name, b"x") for name in names], {})


@pytest.mark.parametrize(("prompts", "message"), [([b"x"], "No picture."), ([b"x", b"y"], "Prompt 0: No picture.")])
def test_what_is_wrong_with_one_ends_all(prompts: list[bytes], message: str) -> None:
    service, visit = FakeService(), Visit("infer")
    question = read("fake-224", [tensor("image", b"A"), tensor("prompt", *prompts)], {})

    async def failed() -> None:
        service.fake.hold = True
        answering = asyncio.ensure_future(answer(service, question, visit))
        await service.fake.called(len(prompts))
        service.fake.fail_first(InvalidImage("No picture."))
        await answering

    with pytest.raises(InvalidImage) as caught:
        asyncio.run(failed())
    assert caught.value.message == message
    assert service.fake.cancelled == (len(prompts) > 1)
    # It is counted as one, with its error.
    assert visit.parts == []


def test_versions_and_outputs() -> None:
    check_version("")
    check_version("1")
    with pytest.raises(ModelNotFound, match="there is 1"):
        check_version("2")
    assert check_outputs([]) == OUTPUTS
    assert check_outputs(["result", "text", "result"]) == ("result", "text")
    with pytest.raises(InvalidRequest, match="there are text and result"):
        check_outputs(["boxes"])

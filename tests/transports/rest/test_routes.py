"""Each task over HTTP: what reaches it, and what comes back."""

import json
from typing import Any

import pytest

from service.tasks.asks import Options
from service.tasks.prompts import CaptionStyle
from service.tasks.results import Box, MaskFormat, PngMask, PolygonMask, RleMask, Segment
from service.transports.offers import OFFERS
from tests.transports.rest.service_fake import BOX, IMAGE, IMAGE_TEXT, OWN_FIELDS, Rest, fields_of, problem, result

SHARED = {"id", "model", "task", "prompt", "text", "finish_reason", "score", "image", "usage", "timings_ms"}
OWN_RESULTS = {
    "caption": {"caption"}, "answer": {"answer"}, "detect": {"detections"}, "segment": {"segments"}, "read": {"text_read"},
    "caption-region": {"caption"}, "generate": {"detections", "segments"},
}  # fmt: skip
TASKS = sorted(OWN_FIELDS)


def as_form(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in fields.items()}


def test_there_is_a_case_for_every_task() -> None:
    assert set(TASKS) == set(OFFERS) == set(OWN_RESULTS)


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_answers_exactly_its_fields(rest: Rest, task: str, form: bool) -> None:
    response = rest.form(task, as_form(OWN_FIELDS[task])) if form else rest.json(task)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == SHARED | OWN_RESULTS[task]
    assert body["id"] == response.headers["x-request-id"]
    assert (body["model"], body["task"], body["prompt"], body["text"]) == ("fake-224", task, "the prefix", " some text ")
    assert (body["finish_reason"], body["score"]) == ("stop", 0.5)
    assert body["image"] == {"width": 64, "height": 48}
    assert body["usage"] == {"image_tokens": 256, "prompt_tokens": 4, "completion_tokens": 3}
    assert body["timings_ms"] == {"queue": 1, "preprocess": 2, "vision": 3, "prefill": 4, "decode": 5, "total": 15}
    box = {"x_min": 1.0, "y_min": 2.0, "x_max": 30.5, "y_max": 40.0}
    found = {"label": "cat", "box": box, "score": 0.75}
    own = {
        "caption": "some text", "answer": "some text", "text_read": "some text", "detections": [found],
        "segments": [found | {"mask": {"format": "rle", "size": [48, 64], "counts": "abc"}}],
    }  # fmt: skip
    assert {name: body[name] for name in OWN_RESULTS[task]} == {name: own[name] for name in OWN_RESULTS[task]}
    assert [(call[0], call[1]) for call in rest.fake.calls] == [(task, IMAGE)]


OWN: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("caption", {}, ("en", CaptionStyle.STANDARD)),
    ("caption", {"language": "de", "style": "detailed"}, ("de", CaptionStyle.DETAILED)),
    ("answer", {"question": "wie viele?", "language": "de"}, ("wie viele?", "de")),
    ("detect", {"objects": ["red circle", "sign"]}, (["red circle", "sign"],)),
    ("detect", {"objects": ["one"]}, (["one"],)),
    ("segment", {"objects": ["a", "b"]}, (["a", "b"], MaskFormat.RLE)),
    ("segment", {"objects": ["a"], "mask_format": "polygon"}, (["a"], MaskFormat.POLYGON)),
    ("read", {}, ()),
    ("caption-region", {"box": BOX}, (Box(1, 2, 30, 40),)),
    ("generate", {"prompt": "any <loc0001> prefix"}, ("any <loc0001> prefix",)),
    ("generate", {"prompt": ""}, ("",)),
]


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize(("task", "fields", "arguments"), OWN)
def test_own_fields_reach_the_task(rest: Rest, task: str, fields: dict[str, Any], arguments: tuple[Any, ...], form: bool) -> None:
    response = rest.form(task, as_form(fields)) if form else rest.json(task, fields)
    assert response.status_code == 200, response.text
    assert rest.fake.calls == [(task, IMAGE, Options(), *arguments)]


@pytest.mark.parametrize("form", [False, True])
def test_shared_fields_reach_the_task(rest: Rest, form: bool) -> None:
    fields = {
        "model": "fake-224", "resolution": 448, "adapter": "mine", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
        "seed": 2**63 - 1, "timeout_ms": 1500, "stream": False, "strict": True,
    }  # fmt: skip
    response = rest.form("read", {name: str(value) for name, value in fields.items()}) if form else rest.json("read", fields)
    assert response.status_code == 200, response.text
    assert rest.fake.calls[0][2] == Options("fake-224", 448, "mine", 7, 0.5, 0.9, 40, 2**63 - 1, 1.5, True)


@pytest.mark.parametrize("resolution", [224, 448, 896, "auto"])
def test_resolution(rest: Rest, resolution: int | str) -> None:
    assert rest.form("read", {"resolution": str(resolution)}).status_code == 200
    assert rest.json("read", {"resolution": resolution}).status_code == 200
    assert [call[2].resolution for call in rest.fake.calls] == [resolution, resolution]


@pytest.mark.parametrize("resolution", [225, "224px", "", " 224", "²", True, 224.5, [], "9" * 5000])
def test_no_resolution(rest: Rest, resolution: object) -> None:
    assert set(fields_of(problem(rest.json("read", {"resolution": resolution}), 422, "invalid_request"))) == {"resolution"}


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (RleMask((2, 3), "04"), {"format": "rle", "size": [2, 3], "counts": "04"}),
        (PngMask(b"\x89PNG"), {"format": "png", "data": "iVBORw=="}),
        (PolygonMask((((1.0, 2.0), (3.5, 4.0)),)), {"format": "polygon", "polygons": [[[1.0, 2.0], [3.5, 4.0]]]}),
        (None, None),
    ],
)
def test_masks(rest: Rest, mask: RleMask | PngMask | PolygonMask | None, told: object) -> None:
    rest.fake.results["segment"] = result("segment", segments=(Segment("cat", Box(1, 2, 3, 4), 1.0, mask),))
    segment = rest.json("segment").json()["segments"][0]
    assert segment["mask"] == told
    assert segment["box"] == {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4}


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "data:image/svg+xml;base64,", "DATA:IMAGE/JPEG;BASE64,"])
def test_base64_with_and_without_a_data_url(rest: Rest, head: str) -> None:
    assert rest.json("read", {"image": head + IMAGE_TEXT}).status_code == 200
    assert rest.fake.calls[0][1] == IMAGE


@pytest.mark.parametrize(
    ("task", "fields", "field"),
    [
        ("read", {"max_tokens": True}, "max_tokens"),
        ("read", {"max_tokens": "5"}, "max_tokens"),
        ("read", {"max_tokens": 5.5}, "max_tokens"),
        ("read", {"temperature": "0.5"}, "temperature"),
        ("read", {"temperature": True}, "temperature"),
        ("read", {"stream": "false"}, "stream"),
        ("read", {"strict": 0}, "strict"),
        ("read", {"seed": -1}, "seed"),
        ("read", {"seed": 2**63}, "seed"),
        ("read", {"timeout_ms": 0}, "timeout_ms"),
        ("read", {"model": 5}, "model"),
        ("read", {"surprise": 1}, "surprise"),
        ("caption", {"style": "loud"}, "style"),
        ("caption", {"language": ""}, "language"),
        ("answer", {"question": ["a"]}, "question"),
        ("detect", {"objects": "cat"}, "objects"),
        ("detect", {"objects": []}, "objects"),
        ("detect", {"objects": ["a"] * 17}, "objects"),
        ("detect", {"objects": ["a", 5]}, "objects.1"),
        ("segment", {"mask_format": "bmp"}, "mask_format"),
        ("caption-region", {"box": [1, 2, 3, 4]}, "box"),
        ("caption-region", {"box": BOX | {"x_min": "1"}}, "box.x_min"),
        ("caption-region", {"box": BOX | {"x_min": -1}}, "box.x_min"),
        ("caption-region", {"box": BOX | {"z": 1}}, "box.z"),
        ("caption-region", {"box": {}}, "box.x_min"),
        ("generate", {"prompt": None}, "prompt"),
    ],
)
def test_json_types_mean_what_they_say(rest: Rest, task: str, fields: dict[str, Any], field: str) -> None:
    assert fields_of(problem(rest.json(task, fields), 422, "invalid_request"))[0] == field
    assert not rest.fake.calls


@pytest.mark.parametrize(
    ("task", "fields", "field"),
    [
        ("read", {"max_tokens": "many"}, "max_tokens"),
        ("read", {"temperature": "nan"}, "temperature"),
        ("read", {"seed": ["1", "2"]}, "seed"),
        ("read", {"strict": "0"}, "strict"),
        ("read", {"stream": "yes"}, "stream"),
        ("detect", {}, "objects"),
        ("detect", {"objects": ["a"] * 17}, "objects"),
        ("caption-region", {"box": "1,2,3,4"}, "box"),
        ("caption-region", {"box": "[" * 50_000}, "box"),
        ("caption-region", {"box": json.dumps(BOX | {"x_min": "far"})}, "box.x_min"),
        ("caption-region", {"box": json.dumps(BOX).replace("1.0", "NaN")}, "box"),
        ("caption-region", {"box": json.dumps(BOX).replace("1.0", "1" * 10_000)}, "box"),
        ("caption-region", {"box": json.dumps(BOX).replace("1.0", "true")}, "box.x_min"),
    ],
)
def test_forms_that_do_not_fit(rest: Rest, task: str, fields: dict[str, Any], field: str) -> None:
    assert fields_of(problem(rest.form(task, fields), 422, "invalid_request"))[0] == field
    assert not rest.fake.calls


def test_the_models(rest: Rest) -> None:
    body = rest.get("/v1/models").json()
    assert body["object"] == "list"
    assert [each["id"] for each in body["data"]] == ["fake-224"]
    one = rest.get("/v1/models/fake-224").json()
    assert one == body["data"][0]
    assert one["tasks"] == list(OWN_FIELDS)
    assert {"resolution", "dtype", "device", "state", "adapters", "max_tokens", "source", "created", "owned_by", "object"} < set(one)

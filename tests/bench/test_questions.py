import json
from itertools import islice

import pytest

from service.bench.pictures import sample_pictures
from service.bench.plan import TASKS
from service.bench.questions import endless, questions
from service.errors import InvalidRequest, OperatorError
from service.transports.grpc.generated import paligemma_pb2 as pb

SAMPLES = sample_pictures()


def test_all_tasks_are_asked_in_turn() -> None:
    asked = questions([], None, {"model": "one"}, SAMPLES)
    assert tuple(each.task for each in asked) == TASKS
    assert all(each.fields["model"] == "one" for each in asked)
    assert [each.prefix.split()[0] for each in asked] == ["caption", "answer", "detect", "segment", "ocr", "caption", "describe"]


@pytest.mark.parametrize(
    ("tasks", "words", "fields", "prefix"),
    [
        ([], "describe en", {"prompt": "describe en"}, "describe en"),
        (["answer"], "why?", {"question": "why?"}, "answer en why?"),
        (["detect"], "cat ; dog", {"objects": ["cat", "dog"]}, "detect cat ; dog"),
        (["segment"], "cat", {"objects": ["cat"]}, "segment cat"),
    ],
)
def test_words_are_the_task_s_own(tasks: list[str], words: str, fields: dict[str, object], prefix: str) -> None:
    (asked,) = questions(tasks, words, {}, SAMPLES)
    assert (asked.fields, asked.prefix) == (fields, prefix)


def test_a_region_is_given_or_the_middle_of_the_picture() -> None:
    middle, given = (questions(["caption-region"], words, {}, SAMPLES)[0] for words in (None, "0 0 64 48"))
    assert json.loads(middle.fields["box"]) == {"x_min": 160, "y_min": 120, "x_max": 480, "y_max": 360}
    assert given.prefix == "caption <loc0000><loc0000><loc0102><loc0102>"


@pytest.mark.parametrize(
    ("tasks", "words"),
    [(["caption"], "cat"), (["detect", "segment"], "cat"), (["caption-region"], "1 2 3"), (["caption-region"], "1 2 3 x")],
)
def test_words_that_nobody_can_use_are_refused(tasks: list[str], words: str) -> None:
    with pytest.raises(OperatorError, match="--prompt"):
        questions(tasks, words, {}, SAMPLES)


def test_a_region_outside_the_picture_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        questions(["caption-region"], "0 0 6400 48", {}, SAMPLES)


def test_each_request_has_a_file_of_its_own_unless_it_may_be_cached() -> None:
    asked = questions(["read"], None, {}, SAMPLES)
    fresh = list(islice(endless(asked, False, lambda question, image: image), 20))
    assert len(set(fresh)) == 20
    assert set(islice(endless(asked, True, lambda question, image: image), 20)) == {SAMPLES[0].file}


def test_a_call_is_its_task_s_own_method() -> None:
    from service.bench.grpc_connection import call

    ready = {each.task: call(each, b"x") for each in questions([], None, {"resolution": "448", "max_tokens": 9}, SAMPLES)}
    assert [each.method for each in ready.values()] == ["Caption", "Answer", "Detect", "Segment", "Read", "CaptionRegion", "Generate"]
    detect = pb.DetectRequest.FromString(ready["detect"].message)
    assert (detect.image, list(detect.objects), detect.resolution, detect.max_tokens) == (b"x", ["purple star", "sign"], 448, 9)
    assert pb.CaptionRegionRequest.FromString(ready["caption-region"].message).box.x_max == 480


def test_a_streamed_call_has_the_prefix_that_its_task_would_have_made() -> None:
    from service.bench.grpc_connection import call

    (asked,) = questions(["detect"], "cat ; dog", {"stream": "true", "model": "one", "resolution": "auto"}, SAMPLES)
    ready = call(asked, b"x")
    message = pb.StreamGenerateRequest.FromString(ready.message)
    assert (ready.method, ready.streams) == ("StreamGenerate", True)
    assert (message.prompt, message.model, message.resolution) == ("detect cat ; dog", "one", pb.RESOLUTION_AUTO)

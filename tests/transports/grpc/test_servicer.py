"""What each call asks of the tasks, and what it answers."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from service.tasks.asks import Options
from service.tasks.prompts import CaptionStyle
from service.tasks.results import Box, EncodedMask, MaskFormat, PngMask, PolygonMask, Segment
from service.tasks.streaming import DetectionEvent, SegmentEvent, TokenEvent
from service.transports.grpc.generated import paligemma_pb2 as pb
from tests.transports.grpc.server_fake import Grpc, refused
from tests.transports.rest.service_fake import DETECTION, IMAGE, SEGMENT, result

BOX = pb.Box(x_min=0.0, y_min=2.0, x_max=30.0, y_max=40.0)
REQUESTS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "Caption": (pb.CaptionRequest(image=IMAGE), ("caption", "en", CaptionStyle.STANDARD)),
    "Answer": (pb.AnswerRequest(image=IMAGE, question="what?", language="de"), ("answer", "what?", "de")),
    "Detect": (pb.DetectRequest(image=IMAGE, objects=["cat", "dog"]), ("detect", ["cat", "dog"])),
    "Segment": (
        pb.SegmentRequest(image=IMAGE, objects=["cat"], mask_format=pb.MASK_FORMAT_PNG),
        ("segment", ["cat"], MaskFormat.PNG),
    ),
    "Read": (pb.ReadRequest(image=IMAGE), ("read",)),
    "CaptionRegion": (pb.CaptionRegionRequest(image=IMAGE, box=BOX), ("caption-region", Box(0.0, 2.0, 30.0, 40.0))),
    "Generate": (pb.GenerateRequest(image=IMAGE, prompt=" any "), ("generate", " any ")),
}
"""For each call a request, and what the tasks are asked then: name and own arguments."""


@pytest.mark.parametrize("name", REQUESTS)
def test_each_call_asks_its_task(server: Grpc, name: str) -> None:
    request, (task, *arguments) = REQUESTS[name]
    response = getattr(server.stub, name)(request)
    (call,) = server.fake.calls
    assert call[:2] == (task, IMAGE)
    assert list(call[3:]) == arguments
    assert call[2] == Options()
    assert (response.task, response.model, response.prompt, response.text) == (task, "fake-224", "the prefix", " some text ")
    assert (response.finish_reason, response.score) == (pb.FINISH_REASON_STOP, 0.5)
    assert (response.image.width, response.image.height) == (64, 48)
    assert (response.usage.image_tokens, response.usage.prompt_tokens, response.usage.completion_tokens) == (256, 4, 3)
    timings = response.timings_ms
    assert [timings.queue, timings.preprocess, timings.vision, timings.prefill, timings.decode, timings.total] == [1, 2, 3, 4, 5, 15]
    assert server.counted() == [f'paliserve_requests_total{{code="ok",model="fake-224",task="{task}",transport="grpc"}} 1.0']


def test_own_results(server: Grpc) -> None:
    answers = {name: getattr(server.stub, name)(request) for name, (request, _) in REQUESTS.items()}
    assert answers["Caption"].caption == answers["CaptionRegion"].caption == "some text"
    assert answers["Answer"].answer == answers["Read"].text_read == "some text"
    for found in (*answers["Detect"].detections, *answers["Segment"].segments):
        assert (found.label, found.score) == ("cat", 0.75)
        assert (found.box.x_min, found.box.y_min, found.box.x_max, found.box.y_max) == (1.0, 2.0, 30.5, 40.0)
    (segment,) = answers["Segment"].segments
    assert (segment.mask.rle.height, segment.mask.rle.width, segment.mask.rle.counts) == (48, 64, "abc")
    assert (len(answers["Generate"].detections), len(answers["Generate"].segments)) == (1, 1)


def test_other_masks_and_none(server: Grpc) -> None:
    box = Box(0, 0, 1, 1)
    masks: list[EncodedMask | None] = [PngMask(b"png"), PolygonMask((((1.0, 2.0), (3.5, 4.0)),)), None]
    server.fake.results["segment"] = result("segment", (), tuple(Segment("cat", box, 0.5, mask) for mask in masks))
    png, polygon, none = server.stub.Segment(pb.SegmentRequest(image=IMAGE, objects=["cat"])).segments
    assert png.mask.png == b"png"
    assert [(point.x, point.y) for point in polygon.mask.polygon.polygons[0].points] == [(1.0, 2.0), (3.5, 4.0)]
    assert not none.HasField("mask")


def test_every_option_reaches_the_task(server: Grpc) -> None:
    server.stub.Read(
        pb.ReadRequest(
            image=IMAGE, model="m", resolution=pb.RESOLUTION_448, adapter="a", max_tokens=7, temperature=0.5, top_p=0.9, top_k=3,
            seed=2**63 - 1, timeout_ms=1500, strict=True,
        )
    )  # fmt: skip
    server.stub.Read(pb.ReadRequest(image=IMAGE, resolution=pb.RESOLUTION_AUTO, seed=0, temperature=0))
    server.stub.Caption(pb.CaptionRequest(image=IMAGE, style=pb.CAPTION_STYLE_SHORT))
    first, second, third = server.fake.calls
    assert first[2] == Options("m", 448, "a", 7, 0.5, 0.9, 3, 2**63 - 1, 1.5, True)
    assert second[2] == Options(resolution="auto", seed=0)
    assert third[4] is CaptionStyle.SHORT


def test_the_calls_deadline_is_the_requests(server: Grpc) -> None:
    server.stub.Read(pb.ReadRequest(image=IMAGE), timeout=20)
    server.stub.Read(pb.ReadRequest(image=IMAGE, timeout_ms=60_000), timeout=20)
    server.stub.Read(pb.ReadRequest(image=IMAGE, timeout_ms=1000), timeout=20)
    timeouts = [call[2].timeout for call in server.fake.calls]
    assert 10 < timeouts[0] < 21
    assert 10 < timeouts[1] < 21
    assert timeouts[2] == 1.0


def test_a_deadline_that_passes_ends_the_task(server: Grpc) -> None:
    server.fake.hold = True
    assert refused(server.stub.Read, pb.ReadRequest(image=IMAGE), timeout=0.2).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    ended(server)


ASKS: dict[str, Callable[[Any], Any]] = {
    "unary": lambda stub: stub.Read.future(pb.ReadRequest(image=IMAGE)),
    "stream": lambda stub: stub.StreamGenerate(pb.StreamGenerateRequest(image=IMAGE, prompt="x")),
    "batch": lambda stub: stub.Batch(iter([pb.BatchRequest(read=pb.ReadRequest(image=IMAGE))])),
}


@pytest.mark.parametrize("kind", ASKS)
def test_a_client_that_cancels_ends_the_task(server: Grpc, kind: str) -> None:
    server.fake.hold = True
    call = ASKS[kind](server.stub)
    server.run(server.fake.entered.wait())
    call.cancel()
    ended(server)


def ended(server: Grpc) -> None:
    """Wait until the held task was cancelled."""
    server.run(server.fake.left.wait())
    assert server.fake.cancelled


def test_models(server: Grpc) -> None:
    (model,) = server.stub.ListModels(pb.ListModelsRequest()).models
    assert (model.id, model.resolution, model.dtype, model.device, model.state) == ("fake-224", 224, "float32", "cpu", pb.MODEL_STATE_WARM)
    assert (model.max_tokens, model.source, model.created) == (1024, "fake", 1_700_000_000)
    assert "caption-region" in model.tasks


def test_a_stream_tells_its_events(server: Grpc) -> None:
    server.fake.events = [TokenEvent("a", 0), TokenEvent("b", 2), DetectionEvent(DETECTION, 0), SegmentEvent(SEGMENT, 1)]
    events = list(server.stub.StreamGenerate(pb.StreamGenerateRequest(image=IMAGE, prompt="detect cat")))
    assert [event.WhichOneof("event") for event in events] == ["token", "token", "detection", "segment", "result"]
    assert (events[1].token.text, events[1].token.index) == ("b", 2)
    assert (events[2].detection.detection.label, events[2].detection.index) == ("cat", 0)
    assert (events[3].segment.segment.mask.rle.counts, events[3].segment.index) == ("abc", 1)
    assert (events[4].result.text, len(events[4].result.detections)) == (" some text ", 1)
    assert server.counted() == ['paliserve_requests_total{code="ok",model="fake-224",task="generate",transport="grpc"} 1.0']


class Requests:
    """What a client sends on a stream, one at a time; None ends it."""

    def __init__(self) -> None:
        self._room = threading.Semaphore(0)
        self._sent: list[pb.BatchRequest | None] = []

    def send(self, request: pb.BatchRequest | None) -> None:
        self._sent.append(request)
        self._room.release()

    def __iter__(self) -> "Requests":
        return self

    def __next__(self) -> pb.BatchRequest:
        self._room.acquire()
        request = self._sent.pop(0)
        if request is None:
            raise StopIteration
        return request


def test_a_batch_answers_each_as_it_finishes(server: Grpc) -> None:
    requests = Requests()
    answers = server.stub.Batch(requests)
    requests.send(pb.BatchRequest(id="first", caption=pb.CaptionRequest(image=IMAGE)))
    # The stream is still open: an answer does not wait for those who come after.
    first = next(answers)
    assert (first.id, first.WhichOneof("outcome"), first.caption.caption) == ("first", "caption", "some text")
    requests.send(pb.BatchRequest(id="bad", detect=pb.DetectRequest()))
    bad = next(answers)
    assert (bad.id, bad.WhichOneof("outcome"), bad.error.code, bad.error.status) == ("bad", "error", "invalid_request", 3)
    assert [each.field for each in bad.error.errors] == ["objects"]
    requests.send(pb.BatchRequest(id="region", caption_region=pb.CaptionRegionRequest(box=BOX)))
    assert next(answers).WhichOneof("outcome") == "caption_region"
    requests.send(None)
    assert list(answers) == []
    # The picture of the stream is one object: by that the engine knows that it is one picture.
    images = [call[1] for call in server.fake.calls]
    assert images == [IMAGE, IMAGE]
    assert images[0] is images[1]
    assert sorted(line.split("task=")[1] for line in server.counted()) == [
        '"caption",transport="grpc"} 1.0',
        '"caption-region",transport="grpc"} 1.0',
        '"detect",transport="grpc"} 1.0',
    ]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.BatchRequest(id="x"), "task"),
        (pb.BatchRequest(id="x" * 257, read=pb.ReadRequest(image=IMAGE)), "id"),
        (pb.BatchRequest(read=pb.ReadRequest()), "image"),
        (pb.BatchRequest(read=pb.ReadRequest(image=IMAGE, images=[IMAGE, IMAGE])), "image"),
    ],
)
def test_what_is_wrong_with_one_is_its_own_answer(server: Grpc, request_: pb.BatchRequest, field: str) -> None:
    bad, good = server.stub.Batch(iter([request_, pb.BatchRequest(id="good", read=pb.ReadRequest(image=IMAGE))]))
    if bad.id == "good":
        bad, good = good, bad
    assert [each.field for each in bad.error.errors] == [field]
    assert good.read.text_read == "some text"


def test_threat_33_a_stream_has_so_many_requests_at_once_and_no_more(server: Grpc) -> None:
    server.fake.hold = True
    answers = server.stub.Batch(iter([pb.BatchRequest(read=pb.ReadRequest(image=IMAGE))] * 100))
    server.run(server.fake.called(64))
    assert len(server.fake.calls) == 64
    server.run(released(server))
    assert len(list(answers)) == 100


async def released(server: Grpc) -> None:
    server.fake.release()


def test_threat_59_errors_nobody_foresaw_stay_inside(server: Grpc) -> None:
    server.fake.error = RuntimeError("secret at 0x7f0000000000")
    error = refused(server.stub.Read, pb.ReadRequest(image=IMAGE))
    assert error.code() is grpc.StatusCode.INTERNAL
    (answer,) = server.stub.Batch(iter([pb.BatchRequest(read=pb.ReadRequest(image=IMAGE))]))
    for text in (error.details(), answer.error.message):
        assert text == "Something failed inside the service. The log tells more under this request id."

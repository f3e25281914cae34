"""Between protobuf's messages and what the tasks take and give."""

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from service.errors import FieldProblem, InvalidRequest
from service.instances.description import ModelDescription
from service.tasks.results import Box, Detection, EncodedMask, PngMask, RleMask, Segment, TaskResult
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.statuses import Failure, seconds

MOST_VALUES = 1000
"""Of a list that is looked at; a task takes fewer."""

Write = Callable[[TaskResult, str], Message]


def fields_of(message: Message) -> dict[str, Any]:
    """The fields that a request has, as JSON would hold them: enums by their words, boxes as objects; those left out are left out.

    Errors: InvalidRequest.
    """
    fields: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.enum_type is not None:
            fields[descriptor.name] = _word(descriptor, value)
        elif descriptor.message_type is not None:
            # A coordinate of 0 counts as not set, and is meant.
            fields[descriptor.name] = {each.name: getattr(value, each.name) for each in descriptor.message_type.fields}
        elif descriptor.is_repeated:
            fields[descriptor.name] = _listed(descriptor.name, value)
        else:
            fields[descriptor.name] = value
    return fields


def _listed(name: str, values: Sequence[str]) -> list[str]:
    """A message can hold millions of empty texts, each of which would become an object."""
    if len(values) > MOST_VALUES:
        problem = f"far fewer than {len(values)} values are taken"
        raise InvalidRequest(f"{name}: {problem}.", (FieldProblem(name, problem),))
    return list(values)


def _word(descriptor: Any, number: int) -> str | int:
    """``CAPTION_STYLE_SHORT`` is "short", ``RESOLUTION_448`` is 448."""
    value = descriptor.enum_type.values_by_number.get(number)
    words = [_bare(each.name, descriptor.enum_type.values[0].name) for each in descriptor.enum_type.values[1:]]
    if value is None:
        problem = f"one of {', '.join(str(word) for word in words)} is needed, by its name"
        raise InvalidRequest(f"{descriptor.name}: {problem}.", (FieldProblem(descriptor.name, problem),))
    return _bare(value.name, descriptor.enum_type.values[0].name)


def _bare(name: str, unspecified: str) -> str | int:
    word = name.removeprefix(unspecified.removesuffix("UNSPECIFIED")).lower()
    return int(word) if word.isdecimal() else word


def caption_response(result: TaskResult, identity: str) -> pb.CaptionResponse:
    """Of ``Caption``."""
    return pb.CaptionResponse(**_shared(result, identity), caption=result.answer.text.strip())


def answer_response(result: TaskResult, identity: str) -> pb.AnswerResponse:
    """Of ``Answer``."""
    return pb.AnswerResponse(**_shared(result, identity), answer=result.answer.text.strip())


def detect_response(result: TaskResult, identity: str) -> pb.DetectResponse:
    """Of ``Detect``."""
    return pb.DetectResponse(**_shared(result, identity), detections=map(detection, result.detections))


def segment_response(result: TaskResult, identity: str) -> pb.SegmentResponse:
    """Of ``Segment``."""
    return pb.SegmentResponse(**_shared(result, identity), segments=map(segment, result.segments))


def read_response(result: TaskResult, identity: str) -> pb.ReadResponse:
    """Of ``Read``."""
    return pb.ReadResponse(**_shared(result, identity), text_read=result.answer.text.strip())


def caption_region_response(result: TaskResult, identity: str) -> pb.CaptionRegionResponse:
    """Of ``CaptionRegion``."""
    return pb.CaptionRegionResponse(**_shared(result, identity), caption=result.answer.text.strip())


def generate_response(result: TaskResult, identity: str) -> pb.GenerateResponse:
    """Of ``Generate``."""
    detections, segments = map(detection, result.detections), map(segment, result.segments)
    return pb.GenerateResponse(**_shared(result, identity), detections=detections, segments=segments)


WRITE: dict[str, Write] = {
    "caption": caption_response,
    "answer": answer_response,
    "detect": detect_response,
    "segment": segment_response,
    "read": read_response,
    "caption-region": caption_region_response,
    "generate": generate_response,
}
"""How the answer of each task is written."""

FINISH_REASONS = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


def detection(found: Detection) -> pb.Detection:
    """One detection."""
    return pb.Detection(label=found.label, box=_box(found.box), score=found.score)


def segment(found: Segment) -> pb.Segment:
    """One segment."""
    return pb.Segment(label=found.label, box=_box(found.box), score=found.score, mask=None if found.mask is None else _mask(found.mask))


def model(served: ModelDescription) -> pb.Model:
    """One instance."""
    return pb.Model(
        id=served.name, created=served.created, resolution=served.resolution, dtype=served.dtype, device=served.device,
        state=f"MODEL_STATE_{served.state.upper()}", tasks=served.tasks, adapters=served.adapters,
        max_tokens=served.max_tokens, source=served.source,
    )  # fmt: skip


def problem(failure: Failure) -> pb.Problem:
    """What was wrong with one of several requests."""
    errors = [pb.FieldProblem(field=each.field, problem=each.problem) for each in failure.fields]
    told = pb.Problem(code=failure.code, status=failure.number, message=failure.message, errors=errors)
    if failure.retry_after is not None:
        told.retry_after.CopyFrom(seconds(failure.retry_after))
    return told


def _shared(result: TaskResult, identity: str) -> dict[str, Any]:
    answer, usage, timings = result.answer, result.answer.usage, result.answer.timings
    return {
        "id": identity,
        "model": answer.model,
        "task": answer.task,
        "prompt": answer.prompt,
        "text": answer.text,
        "finish_reason": FINISH_REASONS[answer.finish_reason],
        "score": answer.score,
        "image": pb.ImageSize(width=answer.image.width, height=answer.image.height),
        "usage": pb.Usage(
            image_tokens=usage.image_tokens, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens
        ),
        "timings_ms": pb.Timings(
            queue=timings.queue, preprocess=timings.preprocess, vision=timings.vision,
            prefill=timings.prefill, decode=timings.decode, total=timings.total,
        ),
    }  # fmt: skip


def _box(box: Box) -> pb.Box:
    return pb.Box(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


def _mask(mask: EncodedMask) -> pb.Mask:
    if isinstance(mask, RleMask):
        height, width = mask.size
        return pb.Mask(rle=pb.RleMask(height=height, width=width, counts=mask.counts))
    if isinstance(mask, PngMask):
        return pb.Mask(png=mask.data)
    outlines = [pb.Polygon(points=[pb.Point(x=x, y=y) for x, y in outline]) for outline in mask.polygons]
    return pb.Mask(polygon=pb.PolygonMask(polygons=outlines))

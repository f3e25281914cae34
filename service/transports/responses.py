"""What each task answers, as JSON."""

import base64
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.tasks.results import Detection, EncodedMask, PngMask, RleMask, Segment, TaskResult


class _FromResult(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class BoxBody(_FromResult):
    """Pixels of the picture as sent, after its EXIF orientation."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class DetectionBody(_FromResult):
    """`score` is the geometric mean probability of the location tokens."""

    label: str
    box: BoxBody
    score: float = Field(ge=0, le=1)


class RleBody(BaseModel):
    """COCO's compressed run lengths of the whole picture; `size` is [height, width]."""

    format: Literal["rle"] = "rle"
    size: tuple[int, int]
    counts: str


class PngBody(BaseModel):
    """A 1-bit PNG of the whole picture, in base64."""

    format: Literal["png"] = "png"
    data: str


class PolygonBody(BaseModel):
    """Outlines as [x, y]; holes are lost."""

    format: Literal["polygon"] = "polygon"
    polygons: list[list[tuple[float, float]]]


MaskBody = RleBody | PngBody | PolygonBody


class SegmentBody(DetectionBody):
    """`mask` is null where the model wrote a box without mask codes, or the masks before it have 256 million pixels, or 250,000 points."""

    mask: MaskBody | None


class ImageBody(_FromResult):
    """Pixels."""

    width: int
    height: int


class UsageBody(_FromResult):
    """Tokens."""

    image_tokens: int
    prompt_tokens: int
    completion_tokens: int


class TimingsBody(_FromResult):
    """Milliseconds."""

    queue: float
    preprocess: float
    vision: float
    prefill: float
    decode: float
    total: float


class TaskResponse(BaseModel):
    """What every task answers."""

    id: str
    model: str
    task: str
    prompt: str = Field(description="The prefix sent to the model.")
    text: str = Field(description="The raw output.")
    finish_reason: Literal["stop", "length"]
    score: float = Field(ge=0, le=1, description="Mean token probability.")
    image: ImageBody
    usage: UsageBody
    timings_ms: TimingsBody


class CaptionResponse(TaskResponse):
    """A caption, of the picture or of a region."""

    caption: str


class AnswerResponse(TaskResponse):
    """An answer."""

    answer: str


class DetectResponse(TaskResponse):
    """What was found."""

    detections: list[DetectionBody]


class SegmentResponse(TaskResponse):
    """What was found, with masks."""

    segments: list[SegmentBody]


class ReadResponse(TaskResponse):
    """The text in the picture."""

    text_read: str


class GenerateResponse(TaskResponse):
    """`detections` and `segments` hold what the text holds of them."""

    detections: list[DetectionBody]
    segments: list[SegmentBody]


def caption_response(result: TaskResult, identity: str) -> CaptionResponse:
    """Of ``caption`` and ``caption_region``."""
    return CaptionResponse(**_shared(result, identity), caption=result.answer.text.strip())


def answer_response(result: TaskResult, identity: str) -> AnswerResponse:
    """Of ``answer``."""
    return AnswerResponse(**_shared(result, identity), answer=result.answer.text.strip())


def detect_response(result: TaskResult, identity: str) -> DetectResponse:
    """Of ``detect``."""
    return DetectResponse(**_shared(result, identity), detections=detections_of(result))


def segment_response(result: TaskResult, identity: str) -> SegmentResponse:
    """Of ``segment``."""
    return SegmentResponse(**_shared(result, identity), segments=segments_of(result))


def read_response(result: TaskResult, identity: str) -> ReadResponse:
    """Of ``read``."""
    return ReadResponse(**_shared(result, identity), text_read=result.answer.text.strip())


def generate_response(result: TaskResult, identity: str) -> GenerateResponse:
    """Of ``generate``."""
    return GenerateResponse(**_shared(result, identity), detections=detections_of(result), segments=segments_of(result))


def _shared(result: TaskResult, identity: str) -> dict[str, Any]:
    answer, timings = result.answer, result.answer.timings
    return {
        "id": identity,
        "model": answer.model,
        "task": answer.task,
        "prompt": answer.prompt,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "score": answer.score,
        "image": ImageBody.model_validate(answer.image),
        "usage": UsageBody.model_validate(answer.usage),
        "timings_ms": TimingsBody(**{name: round(getattr(timings, name), 3) for name in TimingsBody.model_fields}),
    }


def detections_of(result: TaskResult) -> list[DetectionBody]:
    """All detections, in order."""
    return [detection_body(each) for each in result.detections]


def segments_of(result: TaskResult) -> list[SegmentBody]:
    """All segments, in order."""
    return [segment_body(each) for each in result.segments]


def detection_body(detection: Detection) -> DetectionBody:
    """One detection."""
    return DetectionBody.model_validate(detection)


def segment_body(segment: Segment) -> SegmentBody:
    """One segment."""
    box = BoxBody.model_validate(segment.box)
    return SegmentBody(label=segment.label, box=box, score=segment.score, mask=_mask(segment))


def _mask(segment: Segment) -> MaskBody | None:
    encoded: EncodedMask | None = segment.mask
    if encoded is None:
        return None
    if isinstance(encoded, RleMask):
        return RleBody(size=encoded.size, counts=encoded.counts)
    if isinstance(encoded, PngMask):
        return PngBody(data=base64.b64encode(encoded.data).decode())
    return PolygonBody(polygons=[list(outline) for outline in encoded.polygons])

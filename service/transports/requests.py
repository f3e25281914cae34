"""The fields of each task's request, whatever they were sent as, and their limits. The image is not among them: it was taken out first."""

from collections.abc import Awaitable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from service.errors import FieldProblem, InvalidRequest
from service.tasks.asks import MAX_TOKENS, Options
from service.tasks.prompts import LANGUAGES, MAX_OBJECTS, CaptionStyle
from service.tasks.results import Box, MaskFormat, TaskResult
from service.tasks.tasks import Tasks

MOST_PROBLEMS = 20
LONGEST_FIELD = 100
LONGEST_NAME = 256
MOST_NUMBER = 1e300
"""Of a number that is not otherwise bounded: far from what becomes infinite."""


def one_of(kind: type[StrEnum]) -> BeforeValidator:
    """Takes a member's text too: strict JSON has no other way to name it."""

    def member(value: object) -> object:
        if not isinstance(value, str) or value not in set(kind):
            raise ValueError(f"one of {', '.join(kind)} is needed")
        return kind(value)

    return BeforeValidator(member)


def whole(value: object) -> object:
    """JSON's 1.0 is the integer 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Text = Annotated[str, Field(min_length=1, max_length=8192)]
Language = Annotated[str, Field(min_length=1, max_length=16, json_schema_extra={"enum": sorted(LANGUAGES)})]


class TaskRequest(BaseModel):
    """What every task takes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Name | None = Field(default=None, description="Name of an instance, as GET /v1/models lists them.")
    resolution: Literal[224, 448, 896, "auto"] | None = Field(default=None, description="Which instance, where `model` is not given.")
    adapter: Name | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), WHOLE] | None = None
    temperature: float = Field(default=0.0, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: Annotated[int, Field(ge=0, le=100_000), WHOLE] = Field(default=0, description="0 keeps all.")
    seed: Annotated[int, Field(ge=0, lt=2**63), WHOLE] | None = None
    stream: bool = Field(default=False, description="Answer with server-sent events, while the answer is being written.")
    strict: bool = Field(default=False, description="Keep the answer to the task's grammar: then boxes and masks always parse.")
    timeout_ms: Annotated[int, Field(ge=1, le=3_600_000), WHOLE] | None = None

    @field_validator("resolution", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        """A form has no numbers."""
        return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else whole(value)

    def options(self, time_remaining: float | None = None) -> Options:
        """The same for the tasks, which know seconds. ``time_remaining``: seconds until the caller's own deadline, where it has one."""
        limits = [] if self.timeout_ms is None else [self.timeout_ms / 1000]
        if time_remaining is not None:
            limits.append(max(0.0, time_remaining))
        return Options(
            model=self.model, resolution=self.resolution, adapter=self.adapter, max_tokens=self.max_tokens, temperature=self.temperature,
            top_p=self.top_p, top_k=self.top_k, seed=self.seed, timeout=min(limits, default=None), strict=self.strict,
        )  # fmt: skip

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        """Put the request to the tasks; ``options`` are this one's, or made of them."""
        raise NotImplementedError


class CaptionRequest(TaskRequest):
    """Describe the picture."""

    language: Language = "en"
    style: Annotated[CaptionStyle, one_of(CaptionStyle)] = CaptionStyle.STANDARD

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.caption(image, options, self.language, self.style)


class AnswerRequest(TaskRequest):
    """Answer a question about the picture."""

    question: Text
    language: Language = "en"

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.answer(image, options, self.question, self.language)


class DetectRequest(TaskRequest):
    """Find the named objects."""

    objects: list[Name] = Field(min_length=1, max_length=MAX_OBJECTS)

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.detect(image, options, self.objects)


class SegmentRequest(DetectRequest):
    """Find and outline the named objects."""

    mask_format: Annotated[MaskFormat, one_of(MaskFormat)] = MaskFormat.RLE

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.segment(image, options, self.objects, self.mask_format)


class ReadRequest(TaskRequest):
    """Read the text in the picture."""

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.read(image, options)


class BoxFields(BaseModel):
    """A box in pixels of the picture as sent, after its EXIF orientation."""

    # In a form too, a box is JSON.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    x_min: float = Field(ge=0, le=1e6)
    y_min: float = Field(ge=0, le=1e6)
    x_max: float = Field(ge=0, le=1e6)
    y_max: float = Field(ge=0, le=1e6)


class CaptionRegionRequest(TaskRequest):
    """Describe what lies in a box."""

    box: BoxFields

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.caption_region(image, options, Box(self.box.x_min, self.box.y_min, self.box.x_max, self.box.y_max))


class GenerateRequest(TaskRequest):
    """Continue any prefix, as a fine-tuned checkpoint wants it."""

    prompt: Annotated[str, Field(max_length=8192)]
    mask_format: Annotated[MaskFormat, one_of(MaskFormat)] = MaskFormat.RLE

    def ask(self, tasks: Tasks, image: bytes, options: Options) -> Awaitable[TaskResult]:
        return tasks.generate(image, options, self.prompt, self.mask_format)


def refusal(error: ValidationError) -> InvalidRequest:
    """The error for fields that do not fit their schema: field by field, and never the input."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    fields = tuple(
        FieldProblem(".".join(str(part) for part in each["loc"])[:LONGEST_FIELD], each["msg"].removeprefix("Value error, "))
        for each in found[:MOST_PROBLEMS]
    )
    detail = "; ".join(f"{each.field}: {each.problem}" for each in fields[:3]) + "."
    return InvalidRequest(detail, fields)

"""OpenAI's chat completion, whole and in chunks."""

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.observability.logs import request_id
from service.tasks.results import Piece, TaskResult
from service.tasks.results import Usage as Tokens
from service.tasks.streaming import Event, ResultEvent, TokenEvent
from service.transports.responses import DetectionBody, SegmentBody, detections_of, segments_of
from service.transports.rest.events import data

LEAST_LOGPROB = -9999.0
"""What stands for the logarithm of 0, which JSON cannot write."""


def _is_none(value: object) -> bool:
    return value is None


class Found(BaseModel):
    """What `/v1/generate` answers beside the text."""

    detections: list[DetectionBody]
    segments: list[SegmentBody]


class Message(BaseModel):
    """The answer. Boxes and masks that its text holds stand in `paligemma`."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    paligemma: Found


class TokenLogprob(BaseModel):
    """One token. `bytes` is its UTF-8, which may be part of a character; `token` then shows the bytes in hexadecimal."""

    token: str
    logprob: Annotated[float, Field(le=0)]
    bytes: list[int]
    top_logprobs: Annotated[list[Any], Field(max_length=0)] = []


class Logprobs(BaseModel):
    """The tokens of a text."""

    content: list[TokenLogprob]
    refusal: None = None


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: Message
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]


class PromptTokens(BaseModel):
    """Where the prompt's tokens come from."""

    image_tokens: int
    text_tokens: int
    cached_tokens: int = 0


class Usage(BaseModel):
    """Tokens. Those of the picture are among the prompt's."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(BaseModel):
    """What is new: first the role, then text, at last `paligemma`."""

    role: Literal["assistant"] | None = Field(default=None, exclude_if=_is_none)
    content: str | None = Field(default=None, exclude_if=_is_none)
    paligemma: Found | None = Field(default=None, exclude_if=_is_none)


class ChunkChoice(BaseModel):
    """The one answer, in parts."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(BaseModel):
    """A part of an answer. `choices` is empty in the chunk that tells the usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = Field(default=None, exclude_if=_is_none)


def completion(result: TaskResult, logprobs: bool) -> ChatCompletion:
    """The whole answer."""
    answer = result.answer
    message = Message(content=answer.text, paligemma=_found(result))
    told = _logprobs(answer.pieces) if logprobs else None
    choice = Choice.model_validate({"message": message, "logprobs": told, "finish_reason": answer.finish_reason})
    return ChatCompletion(id=_identity(), created=int(time.time()), model=answer.model, choices=[choice], usage=_usage(answer.usage))


class ChatEvents:
    """The dialect of OpenAI's chat: chunks. See ``ChatRequest`` for the switches."""

    def __init__(self, logprobs: bool, include_usage: bool) -> None:
        self._model = ""
        self._logprobs = logprobs
        self._include_usage = include_usage
        self._identity = _identity()
        self._created = int(time.time())
        self._begun = False
        self._told = 0

    def write(self, event: Event) -> bytes:
        """See ``Dialect``."""
        if isinstance(event, TokenEvent):
            self._told += len(event.pieces)
            told = _logprobs(event.pieces) if self._logprobs else None
            return self._beginning(event.model) + self._chunk(ChunkChoice(delta=Delta(content=event.text), logprobs=told))
        if isinstance(event, ResultEvent):
            return self._beginning(event.result.answer.model) + self._end(event.result)
        return b""

    def write_error(self, document: dict[str, Any]) -> bytes:
        """See ``Dialect``. OpenAI's clients raise what they find under ``error``."""
        return data(document)

    def _beginning(self, model: str) -> bytes:
        begun, self._begun, self._model = self._begun, True, model
        return b"" if begun else self._chunk(ChunkChoice(delta=Delta(role="assistant", content="")))

    def _end(self, result: TaskResult) -> bytes:
        # Tokens without a text of their own came with no event.
        rest = result.answer.pieces[self._told :]
        told = _logprobs(rest) if self._logprobs and rest else None
        reason = result.answer.finish_reason
        last = ChunkChoice.model_validate({"delta": Delta(paligemma=_found(result)), "logprobs": told, "finish_reason": reason})
        usage = self._chunk(None, _usage(result.answer.usage)) if self._include_usage else b""
        return self._chunk(last) + usage + b"data: [DONE]\n\n"

    def _chunk(self, choice: ChunkChoice | None, usage: Usage | None = None) -> bytes:
        choices = [] if choice is None else [choice]
        return data(ChatChunk(id=self._identity, created=self._created, model=self._model, choices=choices, usage=usage))


def _identity() -> str:
    return f"chatcmpl-{request_id.get()}"


def _found(result: TaskResult) -> Found:
    return Found(detections=detections_of(result), segments=segments_of(result))


def _logprobs(pieces: Sequence[Piece]) -> Logprobs:
    return Logprobs(content=[_logprob(each) for each in pieces])


def _logprob(piece: Piece) -> TokenLogprob:
    # Rounding may make a certain token's probability a little more than 1.
    logprob = min(0.0, math.log(piece.probability)) if piece.probability > 0 else LEAST_LOGPROB
    return TokenLogprob(token=piece.data.decode(errors="backslashreplace"), logprob=logprob, bytes=list(piece.data))


def _usage(tokens: Tokens) -> Usage:
    prompt = tokens.image_tokens + tokens.prompt_tokens
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=tokens.completion_tokens,
        total_tokens=prompt + tokens.completion_tokens,
        prompt_tokens_details=PromptTokens(image_tokens=tokens.image_tokens, text_tokens=tokens.prompt_tokens),
    )

"""OpenAI's chat request: one picture and its prefix in one user message."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from service.errors import FieldProblem, InvalidRequest
from service.tasks.asks import MAX_TOKENS, Options
from service.tasks.results import MaskFormat
from service.transports.requests import WHOLE, Name, one_of, refusal, whole
from service.transports.rest.refusals import UnsupportedConversation, UnsupportedParameter

MOST_PARTS = 64

Temperature = Annotated[float, Field(ge=0, le=2)]
Base64 = Annotated[str, Field(json_schema_extra={"format": "byte"})]
Budget = Annotated[int, Field(ge=1, le=MAX_TOKENS), WHOLE]


class _Lenient(BaseModel):
    """As OpenAI's service does, it passes over what it does not know."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class TextPart(_Lenient):
    """A part of the prefix."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=8192)]


class ImageUrl(_Lenient):
    """The picture: a data URL, bare base64, or an https URL where the operator allows its host."""

    url: Base64


class ImagePart(_Lenient):
    """The picture. It always has the resolution of the instance: a `detail` is passed over."""

    type: Literal["image_url"]
    image_url: ImageUrl | Base64


_NEEDED: list[JsonValue] = [
    {"contains": {"properties": {"type": {"const": "image_url"}}, "required": ["type"]}, "minContains": 1, "maxContains": 1},
    {"contains": {"properties": {"type": {"const": "text"}, "text": {"pattern": "[!-~]"}}, "required": ["type", "text"]}},
]
"""What JSON Schema says of ``ChatRequest.image`` and ``prefix``."""


class UserMessage(_Lenient):
    """One picture, and the prefix as one text or several, which are joined by blanks."""

    role: Literal["user"]
    content: Annotated[
        list[Annotated[TextPart | ImagePart, Field(discriminator="type")]],
        Field(min_length=1, max_length=MOST_PARTS, json_schema_extra={"allOf": _NEEDED}),
    ]


class StreamOptions(_Lenient):
    """`include_usage`: a last chunk tells the tokens."""

    include_usage: bool | None = None


def _tell_of_the_limited(schema: dict[str, Any]) -> None:
    """They are no fields of the model, but clients send them."""
    for name, (allowed, problem) in _LIMITED.items():
        schema["properties"][name] = {"enum": [None, *allowed], "description": f"Otherwise refused: {problem}."}


class ChatRequest(_Lenient):
    """One question about one picture, in OpenAI's words; besides those the fields of `/v1/generate`, sent by its `extra_body`.

    Other fields are passed over, or refused where what they ask for would be missed.
    """

    model_config = ConfigDict(json_schema_extra=_tell_of_the_limited)

    messages: Annotated[list[UserMessage], Field(min_length=1, max_length=1)]
    model: Name | None = Field(default=None, description="Name of an instance, as GET /v1/models lists them.")
    max_tokens: Budget | None = None
    max_completion_tokens: Budget | None = Field(default=None, description="Goes before `max_tokens`.")
    temperature: Temperature | None = Field(default=None, description="0 is greedy, and the default.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), WHOLE] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    resolution: Literal[224, 448, 896, "auto"] | None = Field(default=None, description="Which instance, where `model` is not given.")
    adapter: Name | None = None
    top_k: Annotated[int, Field(ge=0, le=100_000), WHOLE] | None = None
    strict: bool | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=3_600_000), WHOLE] | None = None
    mask_format: Annotated[MaskFormat, one_of(MaskFormat)] = MaskFormat.RLE

    @field_validator("resolution", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return whole(value)

    def options(self) -> Options:
        """The same for the tasks, which know seconds and no negative seeds."""
        return Options(
            model=self.model, resolution=self.resolution, adapter=self.adapter, max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature or 0.0, top_p=1.0 if self.top_p is None else self.top_p, top_k=self.top_k or 0,
            seed=None if self.seed is None else self.seed % 2**63, timeout=None if self.timeout_ms is None else self.timeout_ms / 1000,
            strict=bool(self.strict), pieces=bool(self.logprobs),
        )  # fmt: skip

    def prefix(self) -> str:
        """The texts of the message as one. Errors: InvalidRequest."""
        texts = [part.text.strip() for part in self.messages[0].content if isinstance(part, TextPart)]
        if not any(texts):
            raise _content("a text part is needed: the prefix for the model, such as “caption en” or “detect cat”")
        return " ".join(filter(None, texts))

    def image(self) -> str:
        """The message's picture, not decoded yet. Errors: InvalidRequest."""
        images = [part.image_url for part in self.messages[0].content if isinstance(part, ImagePart)]
        if len(images) != 1:
            raise _content(f"exactly one image_url part is needed, and there are {len(images)}")
        return images[0] if isinstance(images[0], str) else images[0].url


def read_chat(fields: dict[str, Any]) -> ChatRequest:
    """Check a request. Errors: UnsupportedConversation, UnsupportedParameter, InvalidRequest."""
    _check_conversation(fields.get("messages"))
    for name, (allowed, problem) in _LIMITED.items():
        if fields.get(name) is not None and not _is_one_of(fields[name], allowed):
            raise UnsupportedParameter(f"{name}: {problem}.", (FieldProblem(name, problem),))
    try:
        return ChatRequest.model_validate(fields, strict=True)
    except ValidationError as error:
        raise refusal(error) from None


def _is_one_of(value: object, allowed: tuple[Any, ...]) -> bool:
    """As JSON compares: 1.0 is 1, and true is not."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed)


def _check_conversation(messages: object) -> None:
    if not isinstance(messages, list):
        return
    roles = [each.get("role") for each in messages if isinstance(each, dict)]
    others = sorted({role for role in roles if role in ("system", "developer", "assistant", "tool", "function")})
    if others:
        problem = (
            f"one user message is needed and no {' or '.join(others)} message: put everything the model is to read into the user's text"
        )
    elif len(messages) > 1:
        problem = f"one user message is needed, and there are {len(messages)}: send each question by itself, with its picture"
    elif roles == ["user"] and isinstance(messages[0].get("content"), str):
        raise _content("a list of parts is needed, one image_url part among them: PaliGemma answers about a picture")
    else:
        return
    message = f"PaliGemma was trained on one picture and one prefix, and knows no conversations: {problem}."
    raise UnsupportedConversation(message, (FieldProblem("messages", problem),))


def _content(problem: str) -> InvalidRequest:
    return InvalidRequest(f"messages.0.content: {problem}.", (FieldProblem("messages.0.content", problem),))


_EMPTY: tuple[Any, ...] = (False, 0, "", [], {})
_NO_TOOLS = "the model calls no tools: leave this out"
_NO_PENALTY = "tokens are not penalised here: leave this out, or send 0"
_NO_TEMPLATE = "the texts are the prefix, and no template is put around them: leave this out"
_NO_GRAMMAR = "the grammars are those of the tasks: leave this out; strict keeps an answer to its task's"
_NO_SETTING = "how a picture is read and kept is the instance's: leave this out"
_LIMITED: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "one answer is given to each request: send it several times, with different seeds"),
    "top_logprobs": ((0,), "only the chosen tokens' probabilities are kept: send 0, or logprobs alone"),
    "stop": (_EMPTY, "answers end by themselves or at max_completion_tokens: cut the text where you want it to end"),
    "tools": (_EMPTY, _NO_TOOLS),
    "functions": (_EMPTY, _NO_TOOLS),
    "tool_choice": (("none", "auto"), _NO_TOOLS),
    "function_call": (("none", "auto"), _NO_TOOLS),
    "audio": (_EMPTY, "answers are text: leave this out"),
    "modalities": ((["text"],), 'answers are text: leave this out, or send ["text"]'),
    "response_format": (
        ({"type": "text"},),
        'answers are text, and boxes and masks stand beside it: leave this out, or send {"type": "text"}; strict keeps text to the grammar',
    ),
    "frequency_penalty": ((0,), _NO_PENALTY),
    "presence_penalty": ((0,), _NO_PENALTY),
    "logit_bias": (_EMPTY, "the choice of tokens cannot be biased: leave this out; strict keeps it to the grammar"),
    "prediction": (_EMPTY, "predicted outputs are not used: leave this out"),
    "web_search_options": (_EMPTY, "the model searches nothing: leave this out"),
    "chat_template": ((), _NO_TEMPLATE),
    "chat_template_kwargs": (_EMPTY, _NO_TEMPLATE),
    "documents": (_EMPTY, _NO_TEMPLATE),
    "guided_choice": (_EMPTY, _NO_GRAMMAR),
    "guided_grammar": (_EMPTY, _NO_GRAMMAR),
    "guided_json": (_EMPTY, _NO_GRAMMAR),
    "guided_regex": (_EMPTY, _NO_GRAMMAR),
    "structured_outputs": (_EMPTY, _NO_GRAMMAR),
    "mm_processor_kwargs": (_EMPTY, _NO_SETTING),
    "multi_modal_uuids": (_EMPTY, _NO_SETTING),
    "cache_salt": (_EMPTY, _NO_SETTING),
    "min_tokens": ((0,), "an answer ends where the model ends it: leave this out"),
}
"""Parameters that are understood, and which of their values ask for nothing that is not done here."""

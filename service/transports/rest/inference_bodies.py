"""A request of the Open Inference Protocol, as JSON with or without bytes behind it; and a response."""

import asyncio
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import BaseModel, Field, JsonValue, ValidationError

from service.errors import InvalidRequest, MalformedBody, RequestTooLarge, UnsupportedMediaType
from service.transports.budget import Hold
from service.transports.inference.questions import INPUTS, VERSION
from service.transports.inference.tensors import BYTES, MOST_ELEMENTS, Tensor, check, pack, refused, unpack
from service.transports.requests import MOST_NUMBER, refusal
from service.transports.rest.bodies import Fetch, decoded_image, held_by, json_object, largest_body, whole_body

JSON_LENGTH = "inference-header-content-length"
"""The header that tells how many bytes are JSON, where other bytes follow them: those of the body as it is, not as it was compressed."""

EXAMPLE = '{"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["caption en"]}, …]}'
WINDOWS = {"gzip": 31, "deflate": 15}
"""How zlib is told of an encoding's head."""

THREADED_FROM = 256_000
"""Bytes; more are decompressed off the event loop."""

MOST_RATIO = 100
"""How many times what was sent a body may be, beside ``SMALL`` bytes. Pictures hardly shrink; zlib can do a thousand."""

SMALL = 64_000
MOST_PARAMETERS = 64

Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Number = Annotated[float, Field(ge=-MOST_NUMBER, le=MOST_NUMBER)]
Parameters = Annotated[dict[str, bool | Integer | Number | Annotated[str, Field(max_length=8192)]], Field(max_length=MOST_PARAMETERS)]


class InputBody(BaseModel):
    """A tensor that is sent: `data` in JSON, `image` there as base64 or a data URL; or bytes behind the JSON, with `binary_data_size`."""

    name: Annotated[str, Field(max_length=256)]
    datatype: Annotated[str, Field(max_length=64)]
    shape: Annotated[list[Integer], Field(max_length=8)]
    parameters: Parameters = {}
    data: Annotated[list[Any], Field(max_length=MOST_ELEMENTS)] | None = None


class RequestedOutput(BaseModel):
    """An output that is wanted; `binary_data` in its parameters: as bytes behind the JSON."""

    name: Annotated[str, Field(max_length=256)]
    parameters: Parameters = {}


_BOTH: dict[str, JsonValue] = {
    "minItems": 2,
    "maxItems": 2,
    "allOf": [
        {"contains": {"properties": {"name": {"const": name}, "datatype": {"const": BYTES}}, "required": ["name"]}} for name in INPUTS
    ],
}
"""What JSON Schema says of ``questions.read``."""


class InferBody(BaseModel):
    """n prompts about one picture, or about n. Parameters are the fields of `/v1/generate`, and `binary_data_output`."""

    id: Annotated[str, Field(max_length=256)] | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[InputBody], Field(max_length=8, json_schema_extra=_BOTH)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=8)] = []


class OutputBody(BaseModel):
    """A tensor that is answered."""

    name: str
    datatype: str = BYTES
    shape: list[int]
    parameters: dict[str, int] | None = Field(default=None, exclude_if=lambda value: value is None)
    data: list[str] | None = Field(default=None, exclude_if=lambda value: value is None)


class InferResponse(BaseModel):
    """The answers."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    outputs: list[OutputBody]


@dataclass(frozen=True, slots=True)
class _Decoding:
    """What turns the text of pictures into their bytes: see ``decoded_image``."""

    max_image_bytes: int
    fetch: Fetch
    held: Hold


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read. ``binary``: the names of the outputs that are to follow as bytes; None stands for all."""

    body: InferBody
    tensors: tuple[Tensor, ...]
    parameters: dict[str, Any]
    binary: frozenset[str]


async def read_infer(request: Request, max_image_bytes: int, fetch: Fetch) -> Asked:
    """Read a request. Errors: those of ``read_object`` and of ``decoded_image``."""
    held = held_by(request)
    raw = await _decompressed(request, await whole_body(request, max_image_bytes, EXAMPLE), largest_body(max_image_bytes))
    length = request.headers.get(JSON_LENGTH)
    if length is not None and (not length.isdecimal() or len(length) > 12 or int(length) > len(raw)):
        raise MalformedBody(f"{JSON_LENGTH} must say how many bytes of the body are JSON; the body has {len(raw)}.")
    split = len(raw) if length is None else int(length)
    if split == 0:
        raise MalformedBody(f"{JSON_LENGTH} is 0, which suits models of one input; here there are two, and JSON must name them.")
    try:
        body = InferBody.model_validate(json_object(raw[:split], EXAMPLE), strict=True)
    except ValidationError as error:
        raise refusal(error) from None
    found = await _elements(body.inputs, raw[split:], _Decoding(max_image_bytes, fetch, held))
    tensors = [check(each.name, each.datatype, each.shape, elements) for each, elements in zip(body.inputs, found, strict=True)]
    held.keep(sum(len(element) for tensor in tensors for element in tensor.elements))
    parameters = dict(body.parameters)
    all_binary = parameters.pop("binary_data_output", False) is True
    names = [each.name for each in body.outputs] or ["text", "result"]
    told = {each.name: each.parameters.get("binary_data", all_binary) is True for each in body.outputs}
    return Asked(body, tuple(tensors), parameters, frozenset(name for name in names if told.get(name, all_binary)))


async def _elements(inputs: Sequence[InputBody], binary: bytes, decoding: _Decoding) -> list[list[bytes]]:
    found, at = [], 0
    for each in inputs:
        size = each.parameters.get("binary_data_size")
        if size is None:
            found.append([await _told(each.name, element, decoding) for element in _flat(each.name, each.data)])
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary) - at or each.data is not None:
            raise refused(each.name, f"binary_data_size must be its bytes behind the JSON, with no data; {len(binary) - at} are left there")
        decoding.held.take(size)
        found.append(unpack(each.name, binary[at : at + size]))
        at += size
    if at < len(binary):
        raise MalformedBody(f"{len(binary) - at} bytes behind the JSON belong to no input: each has its binary_data_size.")
    return found


def _flat(name: str, data: Sequence[Any] | None) -> Iterator[str]:
    """Elements of flat or nested data."""
    if data is None:
        raise refused(name, "data is needed, or binary_data_size and bytes behind the JSON")
    for each in data:
        for element in each if isinstance(each, list) else (each,):
            if not isinstance(element, str):
                raise refused(name, "data must hold strings")
            yield element


async def _told(name: str, element: str, decoding: _Decoding) -> bytes:
    if name != "image":
        return element.encode("utf-8", "replace")
    try:
        return await decoded_image(element, decoding.max_image_bytes, decoding.fetch, decoding.held)
    except InvalidRequest as error:
        raise refused(name, f"{error.fields[0].problem}; or send it as binary data") from None


async def _decompressed(request: Request, raw: bytes, most: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return raw
    if encoding not in WINDOWS:
        raise UnsupportedMediaType("The content encoding must be gzip, deflate or identity.")
    most, held = min(most, SMALL + MOST_RATIO * len(raw)), held_by(request)
    held.take(most)
    if len(raw) < THREADED_FROM:
        inflated = _inflated(raw, WINDOWS[encoding], most)
    else:
        inflated = await asyncio.to_thread(_inflated, raw, WINDOWS[encoding], most)
    held.give(most - len(inflated))
    return inflated


def _inflated(raw: bytes, window: int, most: int) -> bytes:
    decompressor = zlib.decompressobj(window)
    try:
        # One byte too many is enough to know.
        inflated = decompressor.decompress(raw, most + 1)
    except zlib.error:
        raise MalformedBody("The body is not of its content encoding.") from None
    if len(inflated) > most:
        raise RequestTooLarge(f"The decompressed request has more than {most} bytes, image and all: send fewer or smaller images.")
    if not decompressor.eof or decompressor.unused_data:
        raise MalformedBody("The compressed body broke off, or has something behind its end.")
    return inflated


def write_infer(asked: Asked, model: str, outputs: Mapping[str, Sequence[bytes]], shape: Sequence[int]) -> Response:
    """The response: JSON, and behind it the outputs that were wanted so."""
    behind = [pack(elements) for name, elements in outputs.items() if name in asked.binary]
    told = []
    for name, elements in outputs.items():
        if name in asked.binary:
            size = sum(len(element) + 4 for element in elements)
            told.append(OutputBody(name=name, shape=list(shape), parameters={"binary_data_size": size}))
        else:
            told.append(OutputBody(name=name, shape=list(shape), data=[element.decode() for element in elements]))
    head = InferResponse(model_name=model, model_version=VERSION, id=asked.body.id, outputs=told).model_dump_json().encode()
    if not behind:
        return Response(head, media_type="application/json")
    return Response(b"".join((head, *behind)), media_type="application/octet-stream", headers={JSON_LENGTH: str(len(head))})

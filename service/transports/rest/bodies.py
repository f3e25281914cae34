"""From a request's bytes to an image and fields, within limits that hold while the bytes come in."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from service.errors import (
    FieldProblem,
    ImageTooLarge,
    InvalidRequest,
    MalformedBody,
    RequestTooLarge,
    UnsupportedMediaType,
)

MOST_FIELDS = 64
LARGEST_FIELD = 64_000
"""Bytes of a form field that is not the image."""

OVERHEAD = 1_000_000
"""Bytes a body may have beside its image."""

MOST_VALUES = 20_000
"""Values a JSON body may hold. A body of nothing but small values takes seventy times its size as objects, and seconds to make them."""

THREADED_FROM = 256_000
"""Base64 longer than this is decoded off the event loop."""

LISTS = frozenset({"objects"})
OBJECTS = frozenset({"box"})
"""Form fields that hold JSON."""

CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"})
"""Of a form. Python knows others, such as punycode and unicode_escape, that fail or make lone surrogates."""

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Body:
    """What a request holds. ``fields`` is everything but the image; ``from_form`` says that all its values are text."""

    image: bytes
    fields: dict[str, Any]
    from_form: bool


Fetch = Callable[[str], Awaitable[bytes]]
"""Gives the bytes at a URL: see ``Service.fetch_image``."""


async def read_body(request: Request, max_image_bytes: int, fetch: Fetch) -> Body:
    """Read JSON or multipart.

    Errors: MalformedBody, UnsupportedMediaType, RequestTooLarge, ImageTooLarge, ImageUrlForbidden, ImageUrlFailed, InvalidRequest.
    """
    kind = _kind(request)
    if kind == "application/json":
        fields = await read_object(request, max_image_bytes, '{"image": "<base64>", …}')
        return Body(await _image(fields, max_image_bytes, fetch), fields, from_form=False)
    if kind == "multipart/form-data":
        # A form that large can only be so by its file: other fields are cut off long before.
        return await _from_form(_limited(request, max_image_bytes + OVERHEAD, ImageTooLarge), max_image_bytes)
    raise UnsupportedMediaType("The content type must be application/json or multipart/form-data.")


async def read_object(request: Request, max_image_bytes: int, example: str) -> dict[str, Any]:
    """The JSON object of a request, images and all. ``example`` shows in errors what is needed.

    Errors: MalformedBody, UnsupportedMediaType, RequestTooLarge, InvalidRequest.
    """
    if _kind(request) != "application/json":
        raise UnsupportedMediaType("The content type must be application/json.")
    return json_object(await whole_body(request, max_image_bytes, example), example)


def largest_body(max_image_bytes: int) -> int:
    """Bytes of a JSON body: twice what an image may have, so that one somewhat too large is told so, by name."""
    return 2 * max_image_bytes * 4 // 3 + OVERHEAD


async def whole_body(request: Request, max_image_bytes: int, example: str) -> bytes:
    """All bytes of a body, and some. Errors: MalformedBody, RequestTooLarge."""
    try:
        raw = await _limited(request, largest_body(max_image_bytes), RequestTooLarge).body()
    except ClientDisconnect:
        raise MalformedBody("The body broke off.") from None
    if not raw:
        raise MalformedBody(f"The body is empty: a JSON object is needed, such as {example}.")
    return raw


def json_object(raw: bytes, example: str) -> dict[str, Any]:
    """The object that JSON tells. Errors: MalformedBody, InvalidRequest."""
    _check_breadth(raw)
    try:
        fields = from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise MalformedBody("The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest(f"The body is JSON, but not an object: {example} is needed.")
    return fields


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _limited(request: Request, most: int, error: type[ImageTooLarge] | type[RequestTooLarge]) -> Request:
    """The same request, whose body ends in an error once it is longer than ``most`` bytes, whatever its head says."""
    refusal = f"The request has more than {most} bytes, image and all: send a smaller image."
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and (len(stated) > 15 or int(stated) > most):
        raise error(refusal)
    received = 0
    inner: Receive = request.receive

    async def receive() -> Message:
        nonlocal received
        message = await inner()
        received += len(message.get("body", b""))
        if received > most:
            raise error(refusal)
        return message

    return Request(request.scope, receive)


async def _image(fields: dict[str, Any], max_image_bytes: int, fetch: Fetch) -> bytes:
    image = fields.pop("image", None)
    if not isinstance(image, str):
        raise _bad_image("the picture is needed here, as a data URL or as base64")
    return await decoded_image(image, max_image_bytes, fetch)


def _check_breadth(raw: bytes) -> None:
    """Refuse by counting marks, before anything is made of them. Base64 holds none; a longest prompt of nothing else stays far below."""
    if raw.count(b",") > MOST_VALUES:
        raise InvalidRequest(f"The body holds more than {MOST_VALUES} values: only the fields of the task are needed.")
    if raw.count(b"[") + raw.count(b"{") > MOST_VALUES:
        raise MalformedBody(f"The body holds more than {MOST_VALUES} lists and objects within one another.")


async def decoded_image(image: str, max_image_bytes: int, fetch: Fetch) -> bytes:
    """The picture that a string stands for: a URL, a data URL, or base64. Errors: those of ``read_body``."""
    if image[:8].lower().startswith(("http://", "https://")):
        return await fetch(image)
    too_large = f"The image has more than {max_image_bytes} bytes, which is the most that is taken."
    head = _DATA_URL.match(image)
    start = head.end() if head else 0
    if len(image) - start > (max_image_bytes + 2) // 3 * 4:
        raise ImageTooLarge(too_large)
    if len(image) < THREADED_FROM:
        decoded = _base64(image, start)
    else:
        decoded = await asyncio.to_thread(_base64, image, start)
    if len(decoded) > max_image_bytes:
        raise ImageTooLarge(too_large)
    return decoded


def _base64(image: str, start: int) -> bytes:
    try:
        return base64.b64decode(image[start:].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _bad_image("this is neither a data URL (data:image/…;base64,…) nor base64") from None


class _WholeForm(MultiPartParser):
    """Nothing of a request is written to a disk: ``_limited`` bounds what it takes of memory. A form without its end is refused."""

    spool_max_size = 2**40
    _ended = False

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        self.stream = self._with_end(self.stream)
        return await super().parse()

    async def _with_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._ended:
            raise MultiPartException("The form has no end.")


async def _from_form(request: Request, max_image_bytes: int) -> Body:
    _, parameters = parse_options_header(request.headers["content-type"])
    if parameters.get(b"charset", b"utf-8").lower() not in CHARSETS:
        raise UnsupportedMediaType("Forms are read as UTF-8: send them so, and leave the charset out.")
    parser = _WholeForm(request.headers, request.stream(), max_files=1, max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD)
    try:
        form = await parser.parse()
    except MultiPartException:
        raise MalformedBody(
            f"The form cannot be read: one file and at most {MOST_FIELDS} fields of {LARGEST_FIELD} bytes are taken, "
            "with a valid boundary, and whole."
        ) from None
    except ClientDisconnect:
        raise MalformedBody("The body broke off.") from None
    try:
        upload = form.get("image")
        if not isinstance(upload, UploadFile):
            raise _bad_image("the picture is needed here, as a file")
        image = await upload.read()
        if len(image) > max_image_bytes:
            raise ImageTooLarge(f"The image has {len(image)} bytes; at most {max_image_bytes} are taken.")
        return Body(image, _form_fields(form), from_form=True)
    finally:
        await form.close()


def _form_fields(form: FormData) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in form:
        values = form.getlist(name)
        if name == "image":
            if len(values) > 1:
                raise _bad_image("one picture is taken, not several")
            continue
        if any(not isinstance(value, str) for value in values):
            raise InvalidRequest("A field is a file.", (FieldProblem(name, "text is needed; only image is a file"),))
        if name in LISTS:
            fields[name] = values
        elif len(values) > 1:
            raise InvalidRequest("A field is given twice.", (FieldProblem(name, "one value is needed"),))
        else:
            fields[name] = _object(name, str(values[0])) if name in OBJECTS else values[0]
    return fields


def _object(name: str, text: str) -> Mapping[str, Any]:
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        example = '{"x_min": 0, "y_min": 0, "x_max": 10, "y_max": 10}'
        raise InvalidRequest("A field is not a JSON object.", (FieldProblem(name, f"a JSON object is needed, such as {example}"),))
    return value


def _bad_image(problem: str) -> InvalidRequest:
    return InvalidRequest("The request has no usable image.", (FieldProblem("image", problem),))

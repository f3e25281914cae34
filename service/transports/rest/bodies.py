"""From a request's bytes to an image and fields, within limits that hold while the bytes come in."""

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Message, Receive

from service.errors import ImageTooLarge, InvalidRequest, MalformedBody, RequestTooLarge, UnsupportedMediaType
from service.transports.budget import Hold
from service.transports.rest.forms import MOST_IMAGES, bad_image, read_form
from service.transports.rest.middleware import HELD
from service.transports.rest.receipts import receipt_of

OVERHEAD = 1_000_000
"""Bytes a body may have beside its image."""

MOST_VALUES = 20_000
"""Values a JSON body may hold. A body of nothing but small values takes seventy times its size as objects, and seconds to make them."""

MOST_PIECES = 1024
"""In which a body may arrive, beside one for each ``BYTES_A_PIECE`` of it: each costs a turn of the event loop, and memory of its own."""

BYTES_A_PIECE = 256

THREADED_FROM = 256_000
"""Base64 longer than this is decoded off the event loop."""

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Body:
    """What a request holds. ``fields`` is everything but the images; ``from_form`` says that all its values are text."""

    image: bytes
    fields: dict[str, Any]
    from_form: bool
    further: tuple[bytes, ...] = ()


Fetch = Callable[[str], Awaitable[bytes]]
"""Gives the bytes at a URL: see ``Service.fetch_image``."""


async def read_body(request: Request, max_image_bytes: int, fetch: Fetch) -> Body:
    """Read JSON or multipart.

    Errors: MalformedBody, UnsupportedMediaType, RequestTooLarge, ImageTooLarge, ImageUrlForbidden, ImageUrlFailed, InvalidRequest,
    Overloaded.
    """
    kind = _kind(request)
    held = held_by(request)
    if kind == "application/json":
        fields = await read_object(request, max_image_bytes, '{"image": "<base64>", …}')
        image, *further = await json_images(fields, lambda text: decoded_image(text, max_image_bytes, fetch, held))
        held.keep(sum(map(len, (image, *further))))
        return Body(image, fields, False, tuple(further))
    if kind == "multipart/form-data":
        # A form that large can only be so by its files: other fields are cut off long before.
        limited = _limited(request, 2 * max_image_bytes + OVERHEAD, ImageTooLarge)
        (image, *further), fields = await read_form(limited, max_image_bytes)
        held.keep(sum(map(len, (image, *further))))
        return Body(image, fields, True, tuple(further))
    raise UnsupportedMediaType("The content type must be application/json or multipart/form-data.")


async def read_object(request: Request, max_image_bytes: int, example: str) -> dict[str, Any]:
    """The JSON object of a request, images and all. ``example`` shows in errors what is needed.

    Errors: MalformedBody, UnsupportedMediaType, RequestTooLarge, InvalidRequest, Overloaded.
    """
    if _kind(request) != "application/json":
        raise UnsupportedMediaType("The content type must be application/json.")
    return json_object(await whole_body(request, max_image_bytes, example), example)


def largest_body(max_image_bytes: int) -> int:
    """Bytes of a JSON body: twice what an image may have, so that one somewhat too large is told so, by name."""
    return 2 * max_image_bytes * 4 // 3 + OVERHEAD


async def whole_body(request: Request, max_image_bytes: int, example: str) -> bytes:
    """All bytes of a body, and some. Errors: MalformedBody, RequestTooLarge, Overloaded."""
    raw = await _limited(request, largest_body(max_image_bytes), RequestTooLarge).body()
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


def held_by(request: Request) -> Hold:
    """What ``Holding`` counts for this request."""
    hold: Hold = request.scope["state"][HELD]
    return hold


def _limited(request: Request, most: int, error: type[ImageTooLarge] | type[RequestTooLarge]) -> Request:
    """The same request, whose body ends in an error once it is longer than ``most`` bytes, whatever its head says, or will not be whole.

    What it announces must have room, but takes none: who announces much and sends nothing would keep others out.
    """
    refusal = f"The request has more than {most} bytes, images and all: send a smaller image, or fewer of them."
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and (len(stated) > 15 or int(stated) > most):
        raise error(refusal)
    held, receipt = held_by(request), receipt_of(request.scope)
    held.check(int(stated) if stated.isdecimal() else 0)
    received = pieces = 0
    inner: Receive = request.receive

    async def receive() -> Message:
        nonlocal received, pieces
        message = await inner()
        if receipt.problem is not None:
            raise receipt.problem
        length = len(message.get("body", b""))
        received += length
        pieces += 1
        if received > most:
            raise error(refusal)
        if pieces > MOST_PIECES + received // BYTES_A_PIECE:
            raise MalformedBody("The body comes in too many small pieces: send larger ones.")
        held.take(length)
        return message

    return Request(request.scope, receive)


async def json_images(fields: dict[str, Any], decode: Callable[[str], Awaitable[bytes]], shared: str | None = None) -> list[bytes]:
    """Take ``image``, or ``images`` in its place, out of the fields; ``shared`` is that of a request without. Errors: InvalidRequest."""
    if "images" in fields:
        if fields.pop("image", None) is not None:
            raise bad_image("image or images is needed, not both")
        images = fields.pop("images")
        if not isinstance(images, list) or not 1 <= len(images) <= MOST_IMAGES or not all(isinstance(each, str) for each in images):
            raise bad_image(f"a list of 1 to {MOST_IMAGES} pictures is needed, each a data URL or base64", "images")
        return [await decode(each) for each in images]
    image = fields.pop("image", shared)
    if not isinstance(image, str):
        raise bad_image("the picture is needed here, as a data URL or as base64")
    return [await decode(image)]


def _check_breadth(raw: bytes) -> None:
    """Refuse by counting marks, before anything is made of them. Base64 holds none; a longest prompt of nothing else stays far below."""
    if raw.count(b",") > MOST_VALUES:
        raise InvalidRequest(f"The body holds more than {MOST_VALUES} values: only the fields of the task are needed.")
    if raw.count(b"[") + raw.count(b"{") > MOST_VALUES:
        raise MalformedBody(f"The body holds more than {MOST_VALUES} lists and objects within one another.")


async def decoded_image(image: str, max_image_bytes: int, fetch: Fetch, held: Hold) -> bytes:
    """The picture that a string stands for: a URL, a data URL, or base64. ``held`` takes it. Errors: those of ``read_body``."""
    if image[:8].lower().startswith(("http://", "https://")):
        return await _fetched(image, max_image_bytes, fetch, held)
    too_large = f"The image has more than {max_image_bytes} bytes, which is the most that is taken."
    head = _DATA_URL.match(image)
    start = head.end() if head else 0
    if len(image) - start > (max_image_bytes + 2) // 3 * 4:
        raise ImageTooLarge(too_large)
    held.take((len(image) - start) * 3 // 4)
    if len(image) < THREADED_FROM:
        decoded = _base64(image, start)
    else:
        decoded = await asyncio.to_thread(_base64, image, start)
    if len(decoded) > max_image_bytes:
        raise ImageTooLarge(too_large)
    return decoded


async def _fetched(url: str, max_image_bytes: int, fetch: Fetch, held: Hold) -> bytes:
    held.take(max_image_bytes)
    image = await fetch(url)
    held.give(max_image_bytes - len(image))
    return image


def _base64(image: str, start: int) -> bytes:
    try:
        return base64.b64decode(image[start:].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise bad_image("this is neither a data URL (data:image/…;base64,…) nor base64") from None

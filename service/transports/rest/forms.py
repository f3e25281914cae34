"""Forms: files and texts of multipart/form-data."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic_core import from_json
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import FieldProblem, ImageTooLarge, InvalidRequest, MalformedBody, UnsupportedMediaType

MOST_FIELDS = 64
MOST_IMAGES = 16
"""Of a request; an instance takes one, unless its checkpoint takes several."""

LARGEST_FIELD = 64_000
"""Bytes of a form field that is not the image."""

LISTS = frozenset({"objects"})
OBJECTS = frozenset({"box"})
"""Form fields that hold JSON."""

FLAGS = frozenset({"stream", "strict"})
"""Form fields that are true or false, in JSON's words."""

CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"})
"""Of a form. Python knows others, such as punycode and unicode_escape, that fail or make lone surrogates."""


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


async def read_form(request: Request, max_image_bytes: int) -> tuple[list[bytes], dict[str, Any]]:
    """The pictures and the other fields. ``request`` is limited already.

    Errors: MalformedBody, UnsupportedMediaType, ImageTooLarge, InvalidRequest.
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    if parameters.get(b"charset", b"utf-8").lower() not in CHARSETS:
        raise UnsupportedMediaType("Forms are read as UTF-8: send them so, and leave the charset out.")
    parser = _WholeForm(request.headers, request.stream(), max_files=MOST_IMAGES, max_fields=MOST_FIELDS, max_part_size=LARGEST_FIELD)
    try:
        form = await parser.parse()
    except MultiPartException:
        raise MalformedBody(
            f"The form cannot be read: at most {MOST_IMAGES} files and {MOST_FIELDS} fields of {LARGEST_FIELD} bytes are taken, "
            "with a valid boundary, and whole."
        ) from None
    try:
        return [await _file(upload, max_image_bytes) for upload in _uploads(form)], _form_fields(form)
    finally:
        await form.close()


def _uploads(form: FormData) -> list[UploadFile]:
    """The files of ``image``, or of ``images`` in its place."""
    name = "images" if "images" in form else "image"
    if "image" in form and name == "images":
        raise bad_image("image or images is needed, not both")
    values = form.getlist(name)
    files = [value for value in values if isinstance(value, UploadFile)]
    if not files or len(files) < len(values):
        raise bad_image("the picture is needed here, as a file", name)
    if name == "image" and len(files) > 1:
        raise bad_image("one picture is taken here, not several; images takes several")
    return files


async def _file(upload: UploadFile, max_image_bytes: int) -> bytes:
    image = await upload.read()
    if len(image) > max_image_bytes:
        raise ImageTooLarge(f"The image has {len(image)} bytes; at most {max_image_bytes} are taken.")
    return image


def _form_fields(form: FormData) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in form:
        values = form.getlist(name)
        if name in ("image", "images"):
            continue
        if any(not isinstance(value, str) for value in values):
            raise InvalidRequest("A field is a file.", (FieldProblem(name, "text is needed; only image and images are files"),))
        if name in LISTS:
            fields[name] = values
        elif len(values) > 1:
            raise InvalidRequest("A field is given twice.", (FieldProblem(name, "one value is needed"),))
        else:
            fields[name] = _value(name, str(values[0]))
    return fields


def _value(name: str, text: str) -> object:
    if name in OBJECTS:
        return _object(name, text)
    if name not in FLAGS:
        return text
    if text.lower() not in ("true", "false"):
        raise InvalidRequest("A field is neither true nor false.", (FieldProblem(name, "true or false is needed"),))
    return text.lower() == "true"


def _object(name: str, text: str) -> Mapping[str, Any]:
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        example = '{"x_min": 0, "y_min": 0, "x_max": 10, "y_max": 10}'
        raise InvalidRequest("A field is not a JSON object.", (FieldProblem(name, f"a JSON object is needed, such as {example}"),))
    return value


def bad_image(problem: str, field: str = "image") -> InvalidRequest:
    """The error for a picture that is missing or is none."""
    return InvalidRequest("The request has no usable image.", (FieldProblem(field, problem),))

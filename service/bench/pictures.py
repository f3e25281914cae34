"""The pictures that are asked about."""

import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from service.errors import ImageTooLarge, InvalidImage, OperatorError
from service.model.images import ImageLimits, ImageReader
from service.picture_files import named

SAMPLES = ("scene.png",)
LIMITS = ImageLimits(max_bytes=sys.maxsize, max_pixels=1_000_000_000)
"""What is too large for the server is told by the server."""

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = len(PNG) + 25
"""Bytes of a PNG up to the end of its first chunk, which must stay the first."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file's bytes, and its width and height in pixels."""

    name: str
    file: bytes
    size: tuple[int, int]

    def fresh(self, serial: int) -> bytes:
        """The same pixels in a file that no other number has, so that no cache knows it. JPEG and PNG get a comment, others a tail."""
        words = f"{serial:020d}".encode()
        if self.file.startswith(JPEG):
            return self.file[:2] + b"\xff\xfe" + struct.pack(">H", len(words) + 2) + words + self.file[2:]
        if self.file.startswith(PNG):
            chunk = b"tEXtserial\x00" + words
            whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            return self.file[:_PNG_HEAD] + whole + self.file[_PNG_HEAD:]
        return self.file + words


def sample_pictures() -> list[Picture]:
    """Those that the package brings along."""
    folder = files("service.demo") / "samples"
    return [_picture(name, (folder / name).read_bytes()) for name in SAMPLES]


def read_pictures(wanted: Sequence[str]) -> list[Picture]:
    """Of files, globs and folders, each in the order of names. Errors: OperatorError."""
    found: list[Picture] = []
    for each in wanted:
        try:
            names = named(each)
            found += [_picture(name, Path(name).read_bytes()) for name in names]
        except OSError as error:
            raise OperatorError(f"--image {error.filename or each}: {error.strerror or 'cannot be read'}.") from None
        if not names:
            raise OperatorError(f"--image {each}: there is no picture of that name.")
    return found


def _picture(name: str, file: bytes) -> Picture:
    try:
        # As the picture is meant to be seen: a region is one of that.
        return Picture(name, file, ImageReader(LIMITS).size(file))
    except (InvalidImage, ImageTooLarge):
        raise OperatorError(f"--image {name}: it is not a picture that can be opened.") from None

"""The pictures that are asked about."""

import glob
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from service.errors import OperatorError

SAMPLES = ("scene.png",)
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
"""What is taken of a folder."""

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
    found = []
    for each in wanted:
        paths = _paths(each)
        if not paths:
            raise OperatorError(f"--image {each}: there is no picture of that name.")
        for path in paths:
            try:
                found.append(_picture(str(path), path.read_bytes()))
            except OSError as error:
                raise OperatorError(f"--image {path}: {error.strerror or 'cannot be read'}.") from None
    return found


def _paths(wanted: str) -> list[Path]:
    path = Path(wanted)
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
    # A file may have a name that would mean others, such as photo[1].jpg.
    return [path] if path.exists() else sorted(map(Path, glob.glob(wanted, recursive=True)))


def _picture(name: str, file: bytes) -> Picture:
    try:
        with Image.open(BytesIO(file)) as opened:
            return Picture(name, file, opened.size)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        raise OperatorError(f"--image {name}: it is not a picture that can be opened.") from None

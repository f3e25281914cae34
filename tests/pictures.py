"""Pictures of every kind that is read."""

import io
import re
from typing import Any

import numpy as np
from PIL import Image

LEAKS = re.compile(r"0x[0-9a-f]{4,}|BytesIO|Traceback|/site-packages/|PIL\b|<_io")
ORIENTATION = 0x0112
LOADING_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
SAVED_AS = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("JPEG", "PNG", "GIF", "BMP", "TIFF"),
    "LA": ("PNG", "TIFF"),
    "P": ("PNG", "GIF", "BMP", "TIFF"),
    "RGB": ("JPEG", "PNG", "WEBP", "BMP", "TIFF"),
    "RGBA": ("PNG", "WEBP", "TIFF", "GIF"),
    "CMYK": ("JPEG", "TIFF"),
    "YCbCr": ("JPEG", "TIFF"),
    "LAB": ("TIFF",),
    "I;16": ("PNG", "TIFF"),
    "I": ("TIFF",),
    "F": ("TIFF",),
}
MODES_AND_FORMATS = [(mode, name) for mode, names in SAVED_AS.items() for name in names]


def noise(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    match mode:
        case "I;16":
            return Image.fromarray(random.integers(0, 400, (height, width)).astype(np.uint16))
        case "I":
            return Image.fromarray(random.integers(-50, 400, (height, width)).astype(np.int32))
        case "F":
            return Image.fromarray(random.uniform(-50, 400, (height, width)).astype(np.float32))
        case "LAB":
            return Image.frombytes("LAB", (width, height), random.integers(0, 256, width * height * 3, dtype=np.uint8).tobytes())
        case "LA" | "RGBA":
            channels = len(mode)
            return Image.frombytes(mode, (width, height), random.integers(0, 256, width * height * channels, dtype=np.uint8).tobytes())
        case _:
            picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
            return picture.convert(mode)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=name, **options)
    return file.getvalue()


def orientation_tag(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()

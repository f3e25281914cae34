"""Pictures: from bytes that nobody trusts to the numbers the vision tower expects."""

import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from service.errors import ImageTooLarge, InvalidImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
CHANNELS = 3
RED = (255, 0, 0)

MAX_SIDE = 65_535
"""Pixels; no JPEG has more. Squeezing a picture takes memory for each of its rows, as wide as the square, however narrow it is itself."""

# Pillow parses a file's structure in Python, one read per piece. An honest file of 20 MB takes a few thousand reads; one made of empty
# chunks takes millions, and minutes.
_MAX_READS = 100_000
# A progressive JPEG has about ten scans, a picture within a picture as many again. Each goes over all pixels, for 100 bytes.
_MAX_JPEG_SCANS = 64
_JPEG_SCAN = b"\xff\xda"
# None, CCITT (2, 3, 4), LZW, Deflate (8, 32946), PackBits. JPEG inside TIFF would open the door to scans without number.
_TIFF_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 8, 32773, 32946))
_TIFF_COMPRESSION, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 259, 322, 323
# Where a PNG may keep an orientation; all three may stand behind the pixels.
_PNG_ORIENTATIONS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = frozenset((5, 6, 7, 8))
_BAND_PIXELS = 1_000_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may be before it is decoded: bytes of the file, pixels of its first frame."""

    max_bytes: int = 20_000_000
    max_pixels: int = 64_000_000

    def check_bytes(self, data: bytes) -> None:
        """Errors: InvalidImage, ImageTooLarge."""
        if not data:
            raise InvalidImage(f"The image is empty: the bytes of a {_format_names()} file are needed.")
        if len(data) > self.max_bytes:
            raise ImageTooLarge(f"The image has {len(data)} bytes; at most {self.max_bytes} are read.")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What a checkpoint's image processor makes of a picture.

    ``side`` is the resolution in pixels. The numbers that the model reads follow from the pixels by ``vision.Normalisation``.
    """

    side: int
    resample: int = Image.Resampling.BICUBIC

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Squeeze an RGB picture into a square, uint8 [side, side, 3]. Its proportions are lost, as in PaliGemma's training."""
        return np.array(image.resize((self.side, self.side), resample=self.resample))


@dataclass(frozen=True, slots=True)
class Squeezed:
    """What ``PixelFormat`` made of a picture, and the picture's (width, height) as it is meant to be seen."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


class Images(Protocol):
    """Reads pictures: here, or in processes of their own. On any thread; blocks. Errors: InvalidImage, ImageTooLarge."""

    def size(self, data: bytes) -> tuple[int, int]:
        """(width, height) as the picture is meant to be seen."""
        ...

    def squeezed(self, data: bytes, into: PixelFormat) -> Squeezed:
        """Decode a picture for a model."""
        ...


class ImageReader:
    """Reads JPEG, PNG, WebP, GIF, BMP and TIFF, told apart by content. Of several frames the first is read.

    All methods raise ImageTooLarge, before any pixel is decoded, and InvalidImage.
    """

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits

    def size(self, data: bytes) -> tuple[int, int]:
        """Read (width, height), as the picture is meant to be seen, from the header. A PNG with EXIF or XMP data is decoded for it."""
        self._limits.check_bytes(data)
        try:
            with self._open(data) as image:
                if image.format != "PNG":
                    return _seen_size(image)
                if not any(marker in data for marker in _PNG_ORIENTATIONS):
                    return image.size
        except Exception as error:
            raise _refusal(error, data) from error
        return self.open(data).size

    def open(self, data: bytes) -> Image.Image:
        """Decode the picture completely, to mode RGB, turned as its EXIF or XMP orientation says. Colour profiles are ignored.

        The colours are those of transformers 5.23 (``convert_to_rgb``): transparency is laid on white; the levels of 16-bit grey, integer
        and float pictures are cut off at 255, not scaled. (transformers 5.17 dropped the transparency instead.)
        """
        self._limits.check_bytes(data)
        try:
            with self._open(data) as image:
                image.load()
                orientation = _orientation(image)
                picture = _to_rgb(image)
            method = _TRANSPOSE.get(orientation)
            return picture if method is None else picture.transpose(method)
        except Exception as error:
            raise _refusal(error, data) from error

    def squeezed(self, data: bytes, into: PixelFormat) -> Squeezed:
        """See ``Images``."""
        opened = self.open(data)
        try:
            return Squeezed(into.pixels(opened), opened.size)
        except MemoryError as error:
            raise _refusal(error, data) from error

    def _open(self, data: bytes) -> Image.Image:
        image = Image.open(_CountedReads(data), formats=FORMATS)
        self._check_pixels(*image.size)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            self._check_tiff(image)
        elif image.format in ("JPEG", "MPO") and data.count(_JPEG_SCAN) > _MAX_JPEG_SCANS:
            raise InvalidImage(f"The JPEG has more than {_MAX_JPEG_SCANS} scans: save it as a plain (baseline) JPEG.")
        return image

    def _check_tiff(self, image: TiffImagePlugin.TiffImageFile) -> None:
        if image.tag_v2.get(_TIFF_COMPRESSION, 1) not in _TIFF_COMPRESSIONS:
            raise InvalidImage("The TIFF's compression is not read: save it with none, LZW, Deflate, PackBits or CCITT compression.")
        # A tile may be far larger than its picture, and is decoded as a whole.
        self._check_pixels(int(image.tag_v2.get(_TIFF_TILE_WIDTH, 0)), int(image.tag_v2.get(_TIFF_TILE_LENGTH, 0)))

    def _check_pixels(self, width: int, height: int) -> None:
        if max(width, height) > MAX_SIDE:
            raise ImageTooLarge(f"The image has {width} x {height} pixels; at most {MAX_SIDE} on a side are read.")
        if width * height > self._limits.max_pixels:
            raise ImageTooLarge(f"The image has {width} x {height} pixels; at most {self._limits.max_pixels} in all are read.")


def outlined(pixels: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The same [height, width, 3] with a red frame of one pixel; ``box`` is (y_min, x_min, y_max, x_max) in parts of the sides."""
    height, width, _ = pixels.shape
    y_min, x_min, y_max, x_max = (int(part * (side - 1)) for part, side in zip(box, (height, width, height, width), strict=True))
    framed = pixels.copy()
    for edge in (
        np.s_[y_min, x_min : x_max + 1],
        np.s_[y_max, x_min : x_max + 1],
        np.s_[y_min : y_max + 1, x_min],
        np.s_[y_min : y_max + 1, x_max],
    ):
        framed[edge] = RED
    return framed


class _CountedReads(io.BytesIO):
    """The bytes of a picture, which may be read in so many pieces only."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise InvalidImage("The image file is cut into far too many pieces: save the picture anew, without metadata.")
        return super().read(size)


def _refusal(error: Exception, data: bytes) -> InvalidImage | ImageTooLarge:
    """Choose the error for the caller. What a library says may hold addresses and is never passed on."""
    if isinstance(error, InvalidImage | ImageTooLarge):
        return error
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageTooLarge("The image has far too many pixels to be decoded.")
    if isinstance(error, MemoryError):
        return InvalidImage("The image takes too much memory to be decoded: save it anew, in a simpler form.")
    if isinstance(error, UnidentifiedImageError):
        return InvalidImage(f"The {len(data)} bytes are not an image that can be read: a complete {_format_names()} file is needed.")
    return InvalidImage(f"The image is truncated or damaged: a complete {_format_names()} file is needed.")


def _format_names() -> str:
    return ", ".join(FORMATS[:-1]) + " or " + FORMATS[-1]


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF data breaks a parser in any way it likes, and never a good picture
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSE else 1


def _seen_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # Pillow has already turned the size of a TIFF by its own tag, but not by an XMP orientation.
    turned = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(ExifTags.Base.Orientation) in _SIDES_SWAPPED
    return (height, width) if _orientation(image) in _SIDES_SWAPPED and not turned else (width, height)


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    # In bands of rows, because blending takes three more copies of what it works on.
    picture = Image.new("RGB", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows))).convert("RGBA")
        white = Image.new("RGBA", band.size, (255, 255, 255, 255))
        picture.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return picture

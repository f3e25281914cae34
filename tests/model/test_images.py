import importlib
import io
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin
from transformers import SiglipImageProcessorPil

from service.errors import ImageTooLarge, InvalidImage
from service.model.images import FORMATS, ImageLimits, ImageReader, PixelFormat
from service.model.vision import Normalisation
from tests.pictures import LEAKS, LOADING_FORMATS, MODES_AND_FORMATS, ORIENTATION, noise, orientation_tag, saved
from tests.random_models import pixel_values


@pytest.fixture
def reader() -> ImageReader:
    return ImageReader(ImageLimits())


def refusal(reader: ImageReader, data: bytes) -> str:
    """The message both methods refuse the bytes with as no picture."""
    with pytest.raises(InvalidImage) as error:
        reader.open(data)
    assert not LEAKS.search(error.value.message)
    return error.value.message


def as_transformers_sees_it(data: bytes) -> Image.Image:
    """The way of transformers' ``load_image``: turn the picture, leave the mode to the processor."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return ImageOps.exif_transpose(image)


def reference_values(image: Image.Image, side: int) -> NDArray[np.float32]:
    processor = SiglipImageProcessorPil(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    values: NDArray[np.float32] = processor(image, return_tensors="np")["pixel_values"][0]
    return values


def lays_transparency_on_white() -> bool:
    """transformers 5.17 drops the alpha channel instead."""
    return float(reference_values(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), 4).min()) == 1.0


HALF = PixelFormat(side=32)
HALVES = Normalisation(1 / 255, (0.5,) * 3, (0.5,) * 3)


def values(pixels: NDArray[np.uint8], normalisation: Normalisation = HALVES) -> NDArray[np.float32]:
    """What the vision tower reads."""
    return np.asarray(pixel_values(torch.from_numpy(pixels), normalisation))


# --- equal to transformers ---


@pytest.mark.parametrize(("mode", "name"), MODES_AND_FORMATS)
@pytest.mark.parametrize("size", [(61, 40), (7, 90), (1, 1)])
def test_pixel_values_equal_transformers_bit_for_bit(reader: ImageReader, mode: str, name: str, size: tuple[int, int]) -> None:
    data = saved(noise(mode, *size), name)
    reference = as_transformers_sees_it(data)
    transparent = "A" in reference.getbands() or reference.info.get("transparency") is not None
    if transparent and not lays_transparency_on_white():
        pytest.skip("this release of transformers drops transparency")
    opened = reader.open(data)
    assert (opened.mode, opened.size) == ("RGB", size)
    assert np.array_equal(values(HALF.pixels(opened)), reference_values(reference, 32))


def test_transparent_palettes_and_colour_keys_equal_transformers(reader: ImageReader) -> None:
    palette = noise("RGB", 50, 30).quantize(16)
    for data in (
        saved(palette, "PNG", transparency=3),
        saved(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        saved(palette, "GIF", transparency=5),
        saved(noise("RGB", 3, 2), "PNG", transparency=(1, 2, 3)),
        saved(noise("L", 9, 9), "PNG", transparency=7),
    ):
        reference = as_transformers_sees_it(data)
        assert reference.info.get("transparency") is not None
        if lays_transparency_on_white():
            assert np.array_equal(values(HALF.pixels(reader.open(data))), reference_values(reference, 32))


def test_transparency_is_blended_alike_in_every_band_of_rows(reader: ImageReader) -> None:
    picture = noise("RGBA", 1500, 1400)
    white = Image.new("RGBA", picture.size, "white")
    expected = Image.alpha_composite(white, picture).convert("RGB")
    assert np.array_equal(np.array(reader.open(saved(picture, "PNG", compress_level=0))), np.array(expected))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["1", "L", "P", "RGB", "CMYK", "YCbCr", "I;16", "I", "F"]),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([8, 14, 56]),
    st.integers(0, 99),
)
def test_random_pictures_equal_transformers(mode: str, size: tuple[int, int], side: int, seed: int) -> None:
    picture = noise(mode, *size, seed)
    pixel_format = PixelFormat(side)
    opened = ImageReader(ImageLimits()).open(saved(picture, "TIFF"))
    assert np.array_equal(values(pixel_format.pixels(opened)), reference_values(picture, side))


@pytest.mark.parametrize(
    ("factor", "mean", "deviation"),
    [
        (1 / 255, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        (0.00392156862745098, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        (1 / 127.5, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
        (0.0173, [0.1, 0.2, 0.3], [0.7, 0.8, 0.9]),
    ],
)
def test_every_level_equals_the_processors_with_any_settings(factor: float, mean: list[float], deviation: list[float]) -> None:
    ramp = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    processor = SiglipImageProcessorPil(size={"height": 16, "width": 16}, rescale_factor=factor, image_mean=mean, image_std=deviation)
    expected = processor(Image.fromarray(ramp), return_tensors="np")["pixel_values"][0]
    ours = values(ramp, Normalisation(factor, (mean[0], mean[1], mean[2]), (deviation[0], deviation[1], deviation[2])))
    assert ours.dtype == np.float32
    assert np.array_equal(ours, expected)


def test_values_take_a_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    made = values(pixels)
    assert made.shape == (3, 3, 8, 8)
    assert made.dtype == np.float32
    assert np.array_equal(made[1], values(pixels[1]))


def test_the_filter_can_be_chosen() -> None:
    picture = noise("RGB", 40, 40)
    bicubic = PixelFormat(16).pixels(picture)
    assert not np.array_equal(bicubic, PixelFormat(16, Image.Resampling.BILINEAR).pixels(picture))
    assert bicubic.dtype == np.uint8


# --- orientation and size ---


def turned_pictures() -> Iterator[tuple[str, int, bytes]]:
    picture = noise("RGB", 24, 16)
    for orientation in range(10):
        for name in ("JPEG", "PNG", "WEBP"):
            yield f"{name}-{orientation}", orientation, saved(picture, name, exif=orientation_tag(orientation))
        if orientation:
            yield f"TIFF-{orientation}", orientation, saved(picture, "TIFF", tiffinfo={ORIENTATION: orientation})
        xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
        yield f"XMP-JPEG-{orientation}", orientation, saved(picture, "JPEG", xmp=xmp)
        yield f"XMP-TIFF-{orientation}", orientation, saved(picture, "TIFF", tiffinfo={700: xmp})


@pytest.mark.parametrize(("orientation", "data"), [pytest.param(one, data, id=name) for name, one, data in turned_pictures()])
def test_threat_09_pictures_are_turned_and_their_size_with_them(reader: ImageReader, orientation: int, data: bytes) -> None:
    assert reader.size(data) == ((16, 24) if 5 <= orientation <= 8 else (24, 16))
    opened = reader.open(data)
    assert opened.size == reader.size(data)
    assert np.array_equal(np.array(opened), np.array(as_transformers_sees_it(data).convert("RGB")))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_an_orientation_behind_the_pixels_of_a_png_counts(reader: ImageReader) -> None:
    plain = saved(noise("RGB", 24, 16), "PNG")
    end = plain.rindex(b"IEND") - 4
    data = plain[:end] + png_chunk(b"eXIf", orientation_tag(6).removeprefix(b"Exif\0\0")) + plain[end:]
    assert reader.size(data) == reader.open(data).size == (16, 24)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"]
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_threat_09_broken_exif_never_fails_a_good_picture(reader: ImageReader, name: str, exif: bytes) -> None:
    data = saved(noise("RGB", 24, 16), name, exif=exif)
    assert reader.size(data) == reader.open(data).size == (24, 16)


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHI4s", ORIENTATION, 2, 4, b"six"),
        struct.pack("<HHII", ORIENTATION, 4, 1, 70_000),
        struct.pack("<HHIf", ORIENTATION, 11, 1, float("nan")),
        struct.pack("<HHII", ORIENTATION, 99, 1, 6),
    ],
)
def test_threat_09_a_senseless_orientation_is_none(reader: ImageReader, entry: bytes) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0" + entry + bytes(4)
    data = saved(noise("RGB", 24, 16), "JPEG", exif=exif)
    assert reader.size(data) == reader.open(data).size == (24, 16)


def test_threat_09_large_profiles_are_ignored(reader: ImageReader) -> None:
    picture = noise("RGB", 24, 16)
    plain = saved(picture, "PNG")
    for data in (saved(picture, "PNG", icc_profile=bytes(900_000)), saved(picture, "TIFF", icc_profile=bytes(15_000_000))):
        opened = reader.open(data)
        assert np.array_equal(np.array(opened), np.array(reader.open(plain)))
        assert reader.size(data) == (24, 16)


# --- sizes, frames ---


@pytest.mark.parametrize("size", [(1, 1), (1, 65_535), (65_535, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "GIF", "JPEG"])
def test_threat_06_degenerate_sizes(reader: ImageReader, name: str, size: tuple[int, int]) -> None:
    if name == "JPEG":
        size = (min(size[0], 65_500), min(size[1], 65_500))
    data = saved(Image.new("L", size, 128), name)
    assert reader.size(data) == size
    pixels = PixelFormat(14).pixels(reader.open(data))
    assert pixels.shape == (14, 14, 3)
    assert np.all(np.abs(pixels.astype(int) - 128) <= 1)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_of_several_frames_is_read(reader: ImageReader, name: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    data = saved(frames[0], name, save_all=True, append_images=frames[1:])
    red, green, blue = reader.open(data).getpixel((5, 5))  # type: ignore[misc]
    assert reader.size(data) == (20, 10)
    assert red > 250
    assert max(green, blue) < 5


def test_bytes_are_limited() -> None:
    data = saved(noise("RGB", 30, 30), "PNG")
    exact = ImageReader(ImageLimits(max_bytes=len(data)))
    assert exact.size(data) == (30, 30)
    tight = ImageReader(ImageLimits(max_bytes=len(data) - 1))
    for read in (tight.size, tight.open):
        with pytest.raises(ImageTooLarge, match=f"{len(data)} bytes; at most {len(data) - 1}"):
            read(data)


def test_pixels_are_limited() -> None:
    data = saved(noise("RGB", 30, 20), "PNG")
    assert ImageReader(ImageLimits(max_pixels=600)).size(data) == (30, 20)
    tight = ImageReader(ImageLimits(max_pixels=599))
    for read in (tight.size, tight.open):
        with pytest.raises(ImageTooLarge, match="30 x 20 pixels; at most 599"):
            read(data)


# --- bombs ---


def png_header(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def tiff(width: int, height: int, tags: dict[int, int], data: bytes) -> bytes:
    entries = {256: width, 257: height, 258: 8, 262: 1, 277: 1, **tags}
    offset = 8 + 2 + 12 * len(entries) + 4
    entries = {tag: offset if tag in (273, 324) else value for tag, value in sorted(entries.items())}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data


def assert_no_decoder_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("a decoder was entered")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    monkeypatch.setattr(Image, "_getdecoder", decode)


@pytest.mark.parametrize("size", [(50_000, 50_000), (12_000, 12_000), (9_000, 9_000), (2**31 - 1, 2**31 - 1), (64_000_001, 1)])
def test_threat_01_a_pixel_bomb_is_refused_by_its_header(
    reader: ImageReader, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_no_decoder_runs(monkeypatch)
    data = png_header(*size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (reader.size, reader.open):
        with pytest.raises(ImageTooLarge) as error:
            read(data)
        assert not LEAKS.search(error.value.message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


@pytest.mark.parametrize("size", [(2, 32_000_000), (32_000_000, 2), (1, 65_536), (65_536, 1)])
def test_threat_01_a_narrow_bomb_is_refused(reader: ImageReader, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pixels, and gigabytes to squeeze it: a row of the square for each of its own."""
    assert_no_decoder_runs(monkeypatch)
    for read in (reader.size, reader.open):
        with pytest.raises(ImageTooLarge, match="at most 65535 on a side"):
            read(png_header(*size))


def test_threat_01_no_library_lifts_the_limit_of_pillow() -> None:
    importlib.import_module("service.serving")
    for source in (Path(__file__).parents[2] / "service").rglob("*.py"):
        assert "MAX_IMAGE_PIXELS" not in source.read_text(encoding="utf-8"), source
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_threat_01_a_tile_larger_than_its_picture_is_refused(reader: ImageReader) -> None:
    data = tiff(16, 16, {259: 8, 322: 30_000, 323: 30_000, 324: 0, 325: 1000}, zlib.compress(bytes(1_000_000)))
    with pytest.raises(ImageTooLarge, match="30000 x 30000"):
        reader.open(data)


FOREIGN = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "PDF": b"%PDF-1.7\n",
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 10, 10, 8, 3) + bytes(16),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "HTML": b"<!doctype html><p>hello",
    "text": b"detect cat",
    "zeros": bytes(1000),
    "HEIF": b"\0\0\0\x18ftypheic" + bytes(100),
    "AVIF": b"\0\0\0\x18ftypavif" + bytes(100),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(100),
    "XBM": b"#define a_width 10\n#define a_height 10\nstatic char a_bits[] = {0};",
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in FOREIGN.items()])
def test_threat_02_and_03_other_files_never_reach_a_decoder(reader: ImageReader, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_no_decoder_runs(monkeypatch)
    assert "JPEG, PNG, WEBP, GIF, BMP or TIFF" in refusal(reader, data)


@pytest.mark.parametrize(
    "name", sorted({"ICO", "ICNS", "PPM", "TGA", "PCX", "SGI", "DDS", "EPS", "PDF", "JPEG2000", "XBM", "MSP", "SPIDER", "DIB", "QOI"})
)
def test_threat_02_formats_pillow_can_write_but_we_do_not_read(reader: ImageReader, name: str) -> None:
    mode = {"XBM": "1", "MSP": "1", "SPIDER": "F"}.get(name, "RGB")
    Image.init()
    if name not in Image.SAVE:
        pytest.skip("not written by this build of Pillow")
    refusal(reader, saved(noise(mode, 64, 64), name))
    assert name not in FORMATS


MAGIC = {
    "BLP": b"BLP2",
    "BUFR": b"BUFR",
    "CUR": b"\0\0\2\0",
    "DCX": b"\xb1\x68\xde\x3a",
    "DDS": b"DDS ",
    "EPS": b"%!PS-Adobe",
    "FITS": b"SIMPLE  =",
    "FLI": bytes(4) + b"\x11\xaf" + bytes(14),
    "FPX": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "FTEX": b"FTEX",
    "GBR": b"\0\0\0\x1c\0\0\0\2",
    "GRIB": b"GRIB",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "ICNS": b"icns",
    "ICO": b"\0\0\1\0",
    "JPEG2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "MCIDAS": b"\0\0\0\0\0\0\0\4",
    "MPEG": b"\0\0\1\xb3",
    "PCD": bytes(2048) + b"PCD_",
    "PIXAR": b"\x80\xe8\0\0",
    "PPM": b"P6\n1 1\n255\n",
    "PSD": b"8BPS\0\1",
    "QOI": b"qoif",
    "SUN": b"\x59\xa6\x6a\x95",
    "WAL": bytes(100),
    "XPM": b"/* XPM */\n",
    "XVTHUMB": b"P7 332",
}


@pytest.mark.parametrize("name", sorted(MAGIC))
def test_threat_02_no_other_plugin_is_ever_asked(reader: ImageReader, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("a plugin that is not on the list was asked")

    Image.init()
    for other in set(Image.OPEN) - {*FORMATS, "MPO"}:
        monkeypatch.setitem(Image.OPEN, other, (asked, asked))
    refusal(reader, MAGIC[name] + bytes(5000))


@pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%!PS\n", b"\xc5\xd0\xd3\xc6" + bytes(28), b"\n%!PS\n"])
def test_threat_03_postscript_is_never_interpreted(reader: ImageReader, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", run)
    refusal(reader, head + b"%%BoundingBox: 0 0 10 10\n%%EndComments\n(/etc/passwd) run\nshowpage\n")


def test_threat_02_jpeg_inside_tiff_is_not_read(reader: ImageReader) -> None:
    assert "compression" in refusal(reader, saved(noise("RGB", 64, 64), "TIFF", compression="jpeg"))


@pytest.mark.parametrize("compression", [None, "raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_the_usual_compressions_of_tiff_are_read(reader: ImageReader, compression: str | None) -> None:
    picture = noise("RGB", 40, 30)
    assert np.array_equal(np.array(reader.open(saved(picture, "TIFF", compression=compression))), np.array(picture))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_tiffs_are_read(reader: ImageReader, compression: str) -> None:
    picture = noise("1", 40, 30)
    assert np.array_equal(np.array(reader.open(saved(picture, "TIFF", compression=compression))), np.array(picture.convert("RGB")))


def repeated_pieces() -> Iterator[tuple[str, bytes]]:
    picture = noise("RGB", 16, 16)
    png, jpeg, gif = saved(picture, "PNG"), saved(picture, "JPEG"), saved(picture, "GIF")
    behind_palette = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    yield "PNG", png[:33] + png_chunk(b"teSt", b"") * 1_000_000 + png[33:]
    yield "JPEG", jpeg[:2] + b"\xff\xef\0\2" * 4_000_000 + jpeg[2:]
    yield "JPEG-fill", jpeg[:2] + b"\xff" * 15_000_000 + jpeg[2:]
    yield "GIF", gif[:behind_palette] + b"\x21\xfe" + b"\1a" * 7_000_000 + b"\0" + gif[behind_palette:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG-fill", "GIF"])
def test_threat_05_a_file_of_millions_of_pieces_is_given_up_early(reader: ImageReader, kind: str) -> None:
    data = dict(repeated_pieces())[kind]
    started = time.perf_counter()
    assert "pieces" in refusal(reader, data)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_threat_05_text_that_swells_is_not_read(reader: ImageReader, kind: bytes) -> None:
    """A hundred chunks of 100 MB each, in 100 kB each."""
    png, swollen = saved(noise("RGB", 16, 16), "PNG"), zlib.compress(bytes(100_000_000))
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    data = png[:33] + png_chunk(kind, head + swollen) * 100 + png[33:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(InvalidImage):
        assert reader.open(data).size == (16, 16)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_threat_05_a_jpeg_of_many_scans_is_refused(reader: ImageReader) -> None:
    jpeg = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last_scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert reader.open(jpeg).size == (64, 64)
    assert "scans" in refusal(reader, jpeg[:-2] + last_scan * 100 + b"\xff\xd9")


def test_threat_05_only_the_first_of_many_frames_is_decoded(reader: ImageReader, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [noise("L", 20, 20, seed) for seed in range(50)]
    data = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])

    def seek(_: object, frame: int) -> None:
        raise AssertionError(f"frame {frame} was asked for")

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "seek", seek)
    assert np.array_equal(np.array(reader.open(data).convert("L")), np.array(frames[0]))


# --- broken bytes ---


def test_threat_07_empty_bytes(reader: ImageReader) -> None:
    for read in (reader.size, reader.open):
        with pytest.raises(InvalidImage, match="empty"):
            read(b"")


@pytest.mark.parametrize("name", LOADING_FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_threat_07_a_truncated_picture_is_refused_whole(reader: ImageReader, name: str, share: float) -> None:
    data = saved(noise("RGB", 200, 150), name)
    assert "complete" in refusal(reader, data[: int(len(data) * share)])


@pytest.mark.parametrize("name", LOADING_FORMATS)
def test_threat_07_bytes_behind_the_picture_do_no_harm(reader: ImageReader, name: str) -> None:
    data = saved(noise("RGB", 50, 40), name)
    assert np.array_equal(np.array(reader.open(data + b"<script>alert(1)</script>")), np.array(reader.open(data)))


@pytest.mark.parametrize("first", LOADING_FORMATS)
@pytest.mark.parametrize("second", LOADING_FORMATS)
def test_threat_07_a_file_of_two_kinds_is_what_it_begins_as(reader: ImageReader, first: str, second: str) -> None:
    one, other = saved(noise("RGB", 50, 40), first), saved(noise("RGB", 30, 20), second)
    assert reader.size(one + other) == (50, 40)
    assert np.array_equal(np.array(reader.open(one + other)), np.array(reader.open(one)))


@pytest.mark.parametrize("name", LOADING_FORMATS)
def test_threat_07_the_head_of_another_format_is_refused(reader: ImageReader, name: str) -> None:
    data = saved(noise("RGB", 50, 40), name)
    for other in LOADING_FORMATS:
        if other != name:
            with pytest.raises((InvalidImage, ImageTooLarge)):
                reader.open(saved(noise("RGB", 50, 40), other)[:12] + data[12:])


def test_threat_07_a_flipped_bit_in_a_png_is_noticed(reader: ImageReader) -> None:
    data = bytearray(saved(noise("RGB", 50, 40), "PNG"))
    data[len(data) // 2] ^= 0x10
    refusal(reader, bytes(data))


SEEDS = [saved(noise(mode, 24, 16), name) for mode, name in MODES_AND_FORMATS]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 3000))
@pytest.mark.filterwarnings("ignore")
def test_threat_07_and_08_mutated_files_are_a_picture_or_a_clear_refusal(seed: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    mutated = bytearray(seed)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    if cut < 400:
        del mutated[len(mutated) - cut :]
    reader = ImageReader(ImageLimits(max_pixels=4_000_000))
    for read in (reader.size, reader.open):
        try:
            read(bytes(mutated))
        except (InvalidImage, ImageTooLarge) as error:
            message = error.message
        else:
            continue
        assert not LEAKS.search(message)
        assert message.endswith(".")


@pytest.mark.parametrize(
    "failure",
    [
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        EOFError,
        TypeError,
        IndexError,
        KeyError,
        zlib.error,
        MemoryError,
        RuntimeError,
        AttributeError,
    ],
)
def test_threat_08_whatever_pillow_raises_is_an_invalid_image(
    reader: ImageReader, failure: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise failure("<_io.BytesIO object at 0x7f3c2a1b4d60> in /usr/lib/python3/site-packages/PIL/Image.py")

    data = saved(noise("RGB", 8, 8), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    refusal(reader, data)

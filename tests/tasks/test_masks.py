import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from service.tasks.masks import encode_mask
from service.tasks.results import Mask, MaskFormat, PngMask, PolygonMask, RleMask
from tests.outlines import Polygons, area, filled, without_holes

# pycocotools' decode, which the service does not call, is behind numpy's times.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def polygons_of(mask: Mask) -> Polygons:
    encoded = encode_mask(mask, MaskFormat.POLYGON)
    assert isinstance(encoded, PolygonMask)
    return encoded.polygons


def picture(*rows: str) -> Mask:
    return np.array([[character == "#" for character in row] for row in rows], dtype=np.bool_)


MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**81 - 1)).map(
    lambda drawn: np.array([drawn[2] >> bit & 1 for bit in range(drawn[0] * drawn[1])], dtype=np.bool_).reshape(drawn[0], drawn[1])
)


@given(MASKS)
def test_run_lengths_are_what_pycocotools_decodes(mask: Mask) -> None:
    encoded = encode_mask(mask, MaskFormat.RLE)
    assert isinstance(encoded, RleMask)
    assert encoded.size == mask.shape
    decoded: NDArray[np.uint8] = coco.decode({"size": list(encoded.size), "counts": encoded.counts})
    assert np.array_equal(decoded.astype(bool), mask)


@given(MASKS)
def test_png_is_one_bit_and_whole(mask: Mask) -> None:
    encoded = encode_mask(mask, MaskFormat.PNG)
    assert isinstance(encoded, PngMask)
    with Image.open(io.BytesIO(encoded.data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "1", mask.shape[::-1])
        assert np.array_equal(np.array(image), mask)


@settings(max_examples=400)
@given(MASKS)
def test_polygons_filled_are_the_mask_without_its_holes(mask: Mask) -> None:
    polygons = polygons_of(mask)
    assert np.array_equal(filled(polygons, *mask.shape), without_holes(mask))
    for polygon in polygons:
        assert area(polygon) >= 1
        turned = (*polygon[1:], polygon[0])
        assert all((x1 == x2) != (y1 == y2) for (x1, y1), (x2, y2) in zip(polygon, turned, strict=True)), "axis-parallel, no empty edge"


def test_one_pixel_is_a_square() -> None:
    assert polygons_of(picture("...", ".#.")) == (((1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (1.0, 2.0)),)


def test_a_hole_is_lost_and_an_island_in_it_is_not() -> None:
    polygons = polygons_of(picture("#####", "#...#", "#.#.#", "#...#", "#####"))
    assert [area(polygon) for polygon in polygons] == [25.0, 1.0]


@pytest.mark.parametrize("rows", [("#.", ".#"), (".#", "#.")])
def test_pixels_that_touch_at_a_corner_are_two_regions(rows: tuple[str, str]) -> None:
    assert [area(polygon) for polygon in polygons_of(picture(*rows))] == [1.0, 1.0]


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("mask_format", list(MaskFormat))
def test_empty_and_full_masks_work_in_all_formats(mask_format: MaskFormat, value: bool) -> None:
    mask = np.full((3, 5), value)
    encoded = encode_mask(mask, mask_format)
    match encoded:
        case PolygonMask():
            assert encoded.polygons == ((((0.0, 0.0), (5.0, 0.0), (5.0, 3.0), (0.0, 3.0)),) if value else ())
        case RleMask():
            assert coco.decode({"size": list(encoded.size), "counts": encoded.counts}).sum() == mask.sum()
        case PngMask():
            with Image.open(io.BytesIO(encoded.data)) as image:
                assert np.array_equal(np.array(image), mask)


def test_a_large_mask_becomes_polygons_in_time() -> None:
    random = np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32)
    mask = np.array(Image.fromarray(random).resize((1000, 1000), Image.Resampling.BILINEAR)) > 0
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        polygons = polygons_of(mask)
        durations.append(time.perf_counter() - started)
    assert sum(area(polygon) for polygon in polygons) >= mask.sum()
    assert min(durations) < 0.5

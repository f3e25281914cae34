"""What the masks of one answer may cost."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.tasks import located
from service.tasks.located import MOST_MASK_PIXELS, Locator, Reading
from service.tasks.parsing import ParsedObject
from service.tasks.results import Box, MaskFormat, PolygonMask, Segment
from tests.fakes import FakeModel

ASKED = 48
"""Masks of a thousand tokens."""


class Painting(FakeModel):
    """Paints a chessboard, the mask with the most points, and counts; or nothing, where the picture is too large for a test."""

    def __init__(self) -> None:
        super().__init__()
        self.painted = 0

    def paint_masks(
        self, codes: Sequence[tuple[int, ...]], boxes: Sequence[tuple[float, float, float, float]], image_size: tuple[int, int]
    ) -> Iterator[NDArray[np.bool_]]:
        for _ in codes:
            self.painted += 1
            rows, columns = np.indices((image_size[1], image_size[0]) if image_size[0] < 10_000 else (1, 1))
            yield (rows + columns) % 2 == 0


def objects(count: int) -> list[ParsedObject]:
    return [ParsedObject("cat", (0, 0, 1023, 1023), tuple(range(16)), 0.5, truncated=False) for _ in range(count)]


def located_by(locator: Locator, count: int) -> list[Segment]:
    return [each for each in locator.locate(objects(count)) if isinstance(each, Segment)]


@pytest.mark.parametrize(("size", "masks"), [((64, 48), ASKED), ((16_000, 4_000), 4), ((16_000, 8_000), 2), ((100_000, 100_000), 1)])
@pytest.mark.parametrize("at_once", [True, False])
def test_threat_34_masks_are_painted_until_they_have_the_pixels_that_one_answer_may_have(
    size: tuple[int, int], masks: int, at_once: bool
) -> None:
    model = Painting()
    locator = Locator(model, size, Reading.MASKS, MaskFormat.RLE)
    found = located_by(locator, ASKED) if at_once else [each for _ in range(ASKED) for each in located_by(locator, 1)]
    assert len(found) == ASKED
    assert all(each.box == Box(0.0, 0.0, each.box.x_max, each.box.y_max) for each in found)
    assert [each.mask is not None for each in found] == [True] * masks + [False] * (ASKED - masks)
    assert model.painted == masks
    assert masks == 1 or masks * size[0] * size[1] <= MOST_MASK_PIXELS


def test_threat_34_polygons_end_where_their_points_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 16 pixels that touch at corners only has four points."""
    monkeypatch.setattr(located, "MOST_POINTS", 150)
    model = Painting()
    found = located_by(Locator(model, (8, 4), Reading.MASKS, MaskFormat.POLYGON), ASKED)
    masks = [each.mask for each in found if each.mask is not None]
    assert [sum(len(polygon) for polygon in mask.polygons) for mask in masks if isinstance(mask, PolygonMask)] == [64, 64]
    assert [each.mask is not None for each in found[:2]] == [True, True]
    assert model.painted == 3


def test_each_answer_has_its_own_allowance() -> None:
    for _ in range(3):
        (found,) = located_by(Locator(Painting(), (100_000, 100_000), Reading.MASKS, MaskFormat.PNG), 1)
        assert found.mask is not None

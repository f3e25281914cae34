import numpy as np
from PIL import Image

from service.drawing import COLOURS, draw
from service.tasks.masks import encode_mask
from service.tasks.results import Box, Detection, MaskFormat, Segment

GREY = Image.new("RGB", (200, 100), (128, 128, 128))


def test_a_box_is_drawn_on_its_edges_and_nowhere_else() -> None:
    drawn = np.asarray(draw(GREY, [Detection("cat", Box(50, 40, 150, 90), 0.9)]))
    assert tuple(drawn[90, 100]) == COLOURS[0]
    assert tuple(drawn[65, 50]) == COLOURS[0]
    assert tuple(drawn[65, 100]) == (128, 128, 128)
    assert tuple(drawn[5, 5]) == (128, 128, 128)


def test_a_mask_is_translucent() -> None:
    mask = np.zeros((100, 200), dtype=np.bool_)
    mask[50:80, 60:140] = True
    drawn = np.asarray(draw(GREY, [Segment("cat", Box(50, 40, 150, 90), 0.9, encode_mask(mask, MaskFormat.RLE))]))
    red, green, _ = drawn[65, 100]
    assert 128 < red < COLOURS[0][0]
    assert COLOURS[0][1] < green < 128


def test_labels_stay_in_the_picture_and_the_original_is_left_alone() -> None:
    edges = [Detection("a very long label indeed", Box(195, 0, 200, 5), 0.5), Detection("", Box(0, 0, 200, 100), 0.5)]
    assert draw(GREY, edges).size == GREY.size
    assert GREY.getpixel((100, 0)) == (128, 128, 128)

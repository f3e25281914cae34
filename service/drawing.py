"""Draws what a task found onto the picture: boxes with labels and scores, masks as translucent colour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.tasks.masks import decode_mask
from service.tasks.results import Box, Detection, Mask, RleMask, Segment

COLOURS = ((230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48), (145, 30, 180), (0, 128, 128), (240, 50, 230), (128, 128, 0))
"""Told apart on light and dark ground; used in turn."""

MASK_OPACITY = 0.45


@dataclass(frozen=True, slots=True)
class _Style:
    """Line width and type size in pixels, for a picture's size."""

    line: int
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw(picture: Image.Image, found: Sequence[Detection | Segment]) -> Image.Image:
    """A copy of ``picture`` (RGB, oriented as the boxes are) with everything that was found drawn on it (masks: if run lengths)."""
    canvas = picture.convert("RGB")
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(found))]
    for each, colour in zip(found, colours, strict=True):
        if isinstance(each, Segment) and isinstance(each.mask, RleMask):
            canvas = _tint(canvas, decode_mask(each.mask), colour)
    side = min(canvas.size)
    style = _Style(line=max(1, side // 160), font=ImageFont.load_default(max(10, side // 24)))
    pen = ImageDraw.Draw(canvas)
    for each, colour in zip(found, colours, strict=True):
        box = each.box
        pen.rectangle((box.x_min, box.y_min, box.x_max, box.y_max), outline=colour, width=style.line)
    for each, colour in zip(found, colours, strict=True):
        _tag(pen, each.box, f"{each.label} {each.score:.2f}".strip(), colour, style)
    return canvas


def _tint(canvas: Image.Image, mask: Mask, colour: tuple[int, int, int]) -> Image.Image:
    levels = np.asarray(canvas).astype(np.float32)
    levels[mask] = (1 - MASK_OPACITY) * levels[mask] + MASK_OPACITY * np.array(colour, dtype=np.float32)
    return Image.fromarray(levels.round().astype(np.uint8))


def _tag(pen: ImageDraw.ImageDraw, box: Box, text: str, colour: tuple[int, int, int], style: _Style) -> None:
    """The label above the box, or inside it where there is no room above; always within the picture's left and right edge."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=style.font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(box.x_min, pen.im.size[0] - width))
    y = box.y_min - height if box.y_min >= height else box.y_min
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    pen.text((x + 2 - left, y + 2 - top), text, fill=(255, 255, 255), font=style.font)

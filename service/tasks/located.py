"""From an answer's tokens to boxes and masks in the caller's picture."""

from collections.abc import Iterator, Sequence
from enum import Enum

from service.engine.generation import FinishReason, Generated
from service.engine.runner import LoadedModel
from service.tasks.masks import encode_mask
from service.tasks.parsing import ParsedObject, box_in_pixels, parse_objects
from service.tasks.results import Box, Detection, Mask, MaskFormat, Segment


class Reading(Enum):
    """What a task reads from the tokens: only text, boxes, boxes with masks, or whatever the answer holds."""

    TEXT = "text"
    BOXES = "boxes"
    MASKS = "masks"
    WHATEVER = "whatever"


Located = tuple[tuple[Detection, ...], tuple[Segment, ...]]


def locate(generated: Generated, model: LoadedModel, image_size: tuple[int, int], reading: Reading, mask_format: MaskFormat) -> Located:
    """Detections and segments in pixels of the picture, ``image_size`` (width, height). Slow where there are masks."""
    if reading is Reading.TEXT:
        return (), ()
    cut = generated.finish_reason is FinishReason.LENGTH
    objects = parse_objects(generated.tokens, generated.probabilities, model.vocabulary, cut)
    found = [(each, box_in_pixels(each.bins, *image_size)) for each in objects]
    as_segments = [reading is Reading.MASKS or (reading is Reading.WHATEVER and each.codes is not None) for each in objects]
    detections = tuple(Detection(each.label, box, each.score) for (each, box), masked in zip(found, as_segments, strict=True) if not masked)
    outlined = [pair for pair, masked in zip(found, as_segments, strict=True) if masked]
    return detections, _segments(outlined, model, image_size, mask_format)


def _segments(
    outlined: Sequence[tuple[ParsedObject, Box]], model: LoadedModel, image_size: tuple[int, int], mask_format: MaskFormat
) -> tuple[Segment, ...]:
    coded = [(each.codes, (box.x_min, box.y_min, box.x_max, box.y_max)) for each, box in outlined if each.codes is not None]
    painted: Iterator[Mask] = iter(())
    if coded and model.paints_masks:
        painted = model.paint_masks([codes for codes, _ in coded], [corners for _, corners in coded], image_size)
    segments = []
    for each, box in outlined:
        # One mask at a time: each has as many pixels as the picture.
        mask = next(painted, None) if each.codes is not None else None
        segments.append(Segment(each.label, box, each.score, None if mask is None else encode_mask(mask, mask_format)))
    return tuple(segments)

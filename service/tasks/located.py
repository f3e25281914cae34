"""From an answer's tokens to boxes and masks in the caller's picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from service.engine.generation import FinishReason, Generated
from service.engine.runner import LoadedModel
from service.tasks.masks import encode_mask
from service.tasks.parsing import LOCATIONS, ParsedObject, box_in_pixels, parse_objects
from service.tasks.results import Box, Detection, Mask, MaskFormat, Segment


class Reading(Enum):
    """What a task reads from the tokens: only text, boxes, boxes with masks, or whatever the answer holds."""

    TEXT = "text"
    BOXES = "boxes"
    MASKS = "masks"
    WHATEVER = "whatever"


@dataclass(frozen=True, slots=True)
class Locator:
    """Puts the objects of one answer into its picture, of ``image_size`` (width, height), as its task reads them.

    ``whole``: bins to a side. ``name`` is that of an object that the answer leaves without one.
    """

    model: LoadedModel
    image_size: tuple[int, int]
    reading: Reading
    mask_format: MaskFormat
    whole: int = LOCATIONS
    name: str = ""

    def read(self, generated: Generated) -> list[Detection | Segment]:
        """Find and locate the objects of a whole answer, in order. Slow: meant for a worker thread."""
        cut = generated.finish_reason is FinishReason.LENGTH
        return self.locate(parse_objects(generated.tokens, generated.probabilities, self.model.vocabulary, cut))

    def paints(self, objects: Sequence[ParsedObject]) -> bool:
        """Whether masks must be painted to locate them, which is slow: then locate them in a worker thread."""
        return self.model.paints_masks and any(self._is_segment(each) and each.codes is not None for each in objects)

    def locate(self, objects: Sequence[ParsedObject]) -> list[Detection | Segment]:
        """A detection or a segment for each object, in order."""
        placed = [(each, box_in_pixels(each.bins, *self.image_size, self.whole)) for each in objects]
        painted = self._painted(placed)
        located: list[Detection | Segment] = []
        for each, box in placed:
            if not self._is_segment(each):
                located.append(Detection(each.label or self.name, box, each.score))
                continue
            # One mask at a time: each has as many pixels as the picture.
            mask = next(painted, None) if each.codes is not None else None
            located.append(Segment(each.label or self.name, box, each.score, None if mask is None else encode_mask(mask, self.mask_format)))
        return located

    def _is_segment(self, found: ParsedObject) -> bool:
        return self.reading is Reading.MASKS or (self.reading is Reading.WHATEVER and found.codes is not None)

    def _painted(self, placed: Sequence[tuple[ParsedObject, Box]]) -> Iterator[Mask]:
        """The masks of those that have one."""
        coded = [(each.codes, box) for each, box in placed if self._is_segment(each) and each.codes is not None]
        if not coded or not self.model.paints_masks:
            return iter(())
        corners = [(box.x_min, box.y_min, box.x_max, box.y_max) for _, box in coded]
        return self.model.paint_masks([codes for codes, _ in coded], corners, self.image_size)

"""From an answer's tokens to boxes and masks in the caller's picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from service.engine.generation import FinishReason, Generated
from service.engine.runner import LoadedModel
from service.tasks.masks import encode_mask
from service.tasks.parsing import LOCATIONS, ParsedObject, box_in_pixels, parse_objects
from service.tasks.results import Box, Detection, EncodedMask, Mask, MaskFormat, PolygonMask, Segment

MOST_MASK_PIXELS = 256_000_000
"""Pixels that the masks of one answer have together; each has as many as the picture. The first mask is painted in any case."""

MOST_POINTS = 250_000
"""Points that the polygons of one answer have together."""


class Allowance:
    """What the masks of one answer may still cost. Objects behind its end keep their boxes, and have no mask."""

    def __init__(self, picture_pixels: int) -> None:
        self._masks = max(1, MOST_MASK_PIXELS // max(1, picture_pixels))
        self._points = MOST_POINTS

    def masks(self, wanted: int) -> int:
        """How many of so many masks may be painted."""
        granted = min(wanted, self._masks)
        self._masks -= granted
        return granted

    def holds(self, mask: EncodedMask) -> bool:
        """Whether one may be sent. If not, those behind it need not be painted."""
        if isinstance(mask, PolygonMask):
            self._points -= sum(len(polygon) for polygon in mask.polygons)
        return not self.is_spent

    @property
    def is_spent(self) -> bool:
        """Whether one was too much."""
        return self._points < 0


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
    allowance: Allowance = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Not assigned, because the rest does not change.
        object.__setattr__(self, "allowance", Allowance(self.image_size[0] * self.image_size[1]))

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
            mask = next(painted, None) if each.codes is not None and not self.allowance.is_spent else None
            located.append(Segment(each.label or self.name, box, each.score, None if mask is None else self._encoded(mask)))
        return located

    def _is_segment(self, found: ParsedObject) -> bool:
        return self.reading is Reading.MASKS or (self.reading is Reading.WHATEVER and found.codes is not None)

    def _encoded(self, mask: Mask) -> EncodedMask | None:
        encoded = encode_mask(mask, self.mask_format)
        return encoded if self.allowance.holds(encoded) else None

    def _painted(self, placed: Sequence[tuple[ParsedObject, Box]]) -> Iterator[Mask]:
        """The masks of those that have one."""
        coded = [(each.codes, box) for each, box in placed if self._is_segment(each) and each.codes is not None]
        if not coded or not self.model.paints_masks:
            return iter(())
        coded = coded[: self.allowance.masks(len(coded))]
        corners = [(box.x_min, box.y_min, box.x_max, box.y_max) for _, box in coded]
        return self.model.paint_masks([codes for codes, _ in coded], corners, self.image_size)

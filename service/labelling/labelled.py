"""What was found in one picture, and how it is written down between runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FoundObject:
    """``box`` is (x_min, y_min, x_max, y_max) in pixels; ``counts`` the mask as COCO's compressed run lengths of the whole picture."""

    label: str
    box: tuple[float, float, float, float]
    score: float
    counts: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture's sides in pixels, as it is meant to be seen, and the objects in the order of the answer."""

    width: int
    height: int
    objects: tuple[FoundObject, ...]


def of_response(response: Mapping[str, Any]) -> Labelled:
    """Of the JSON that ``/v1/detect`` and ``/v1/segment`` answer with. Errors: KeyError, TypeError, where it is none."""
    image, found = response["image"], response["segments"] if "segments" in response else response["detections"]
    return Labelled(image["width"], image["height"], tuple(_object(each) for each in found))


def _object(found: Mapping[str, Any]) -> FoundObject:
    box, mask = found["box"], found.get("mask")
    corners = (box["x_min"], box["y_min"], box["x_max"], box["y_max"])
    return FoundObject(found["label"], corners, found["score"], None if mask is None else mask["counts"])


def to_line(labelled: Labelled) -> dict[str, Any]:
    """For a journal: what ``from_line`` reads."""
    objects = [[each.label, each.box, each.score, each.counts] for each in labelled.objects]
    return {"width": labelled.width, "height": labelled.height, "objects": objects}


def from_line(line: Mapping[str, Any]) -> Labelled:
    """Errors: KeyError, TypeError, ValueError, where it is none of ours."""
    objects = tuple(FoundObject(label, (box[0], box[1], box[2], box[3]), score, counts) for label, box, score, counts in line["objects"])
    return Labelled(line["width"], line["height"], objects)

"""COCO's form of a labelled folder: https://cocodataset.org/#format-data."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pycocotools import mask as coco

from service.labelling.labelled import FoundObject, Labelled
from service.labelling.prompt import LabelPrompt

DIGITS = 3
"""After the point. What rounds differently in another batch is not told."""


def document(prompt: LabelPrompt, model: str, labelled: Mapping[str, Labelled], min_score: float) -> dict[str, Any]:
    """The same for the same pictures, in whatever order they were answered: nothing in it tells of the run.

    ``labelled``: by file name. Images are numbered in the order of their names, objects in that of the answers, categories in that of the
    prompt. Left out: objects below ``min_score``, without any area, found a second time, or with a name that was not asked for.
    """
    categories = {name: number for number, name in enumerate(prompt.names, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, name in enumerate(sorted(labelled), 1):
        one = labelled[name]
        images.append({"id": number, "file_name": name, "width": one.width, "height": one.height})
        seen = set()
        for each in one.objects:
            told = _annotation(each, one)
            if each.label not in categories or each.score < min_score or not told["area"] or (each.label, each.box) in seen:
                continue
            seen.add((each.label, each.box))
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": categories[each.label], **told})
    return {
        "info": {"description": prompt.text, "contributor": f"PaliServe, {model}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()],
    }


def _annotation(found: FoundObject, picture: Labelled) -> dict[str, Any]:
    """``area``: of the mask, or of the box where there is none."""
    x_min, y_min, x_max, y_max = found.box
    width, height = x_max - x_min, y_max - y_min
    segmentation: dict[str, Any] | list[Any] = []
    area: float = width * height
    if found.counts is not None:
        segmentation = {"size": [picture.height, picture.width], "counts": found.counts}
        area = int(coco.area(segmentation))
    return {
        "bbox": [round(each, DIGITS) for each in (x_min, y_min, width, height)],
        "area": round(area, DIGITS),
        "iscrowd": 0,
        "segmentation": segmentation,
        "score": round(found.score, DIGITS),
    }


def write(told: Mapping[str, Any], path: Path) -> None:
    """Put the whole file in place at once, one image and one annotation a line. Errors: OSError."""
    parts = ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in told.items())
    # In the same folder, because only there a name can be taken over in one step.
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(f"{{\n{parts}\n}}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _lines(value: object) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(each) for each in value) + "\n]"

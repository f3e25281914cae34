import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from service.labelling.coco import document, write
from service.labelling.labelled import FoundObject, Labelled
from service.labelling.prompt import parse_prompt

PROMPT = parse_prompt("segment dog ; cat")


def counts(mask: np.ndarray) -> str:
    encoded: str = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    return encoded


MASK = np.zeros((48, 64), bool)
MASK[10:20, 5:25] = True
MASK[12:14, 7:9] = False
DOG = FoundObject("dog", (5.0, 10.0, 25.0, 20.0), 0.87654, counts(MASK))
CAT = FoundObject("cat", (0.0, 0.0, 10.25, 4.0), 0.25)
LABELLED = {"b.png": Labelled(64, 48, (CAT, DOG)), "a/z.png": Labelled(64, 48, (DOG,)), "empty.png": Labelled(9, 7, ())}


def test_ids_follow_names_and_the_prompt() -> None:
    told = document(PROMPT, "one", LABELLED, 0.0)
    assert told["images"] == [
        {"id": 1, "file_name": "a/z.png", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.png", "width": 64, "height": 48},
        {"id": 3, "file_name": "empty.png", "width": 9, "height": 7},
    ]
    assert [(each["id"], each["image_id"], each["category_id"]) for each in told["annotations"]] == [(1, 1, 1), (2, 2, 2), (3, 2, 1)]
    assert [(each["id"], each["name"]) for each in told["categories"]] == [(1, "dog"), (2, "cat")]
    assert document(PROMPT, "one", dict(reversed(LABELLED.items())), 0.0) == told


def test_an_annotation() -> None:
    dog, cat, _ = document(PROMPT, "one", LABELLED, 0.0)["annotations"]
    assert dog["bbox"] == [5, 10, 20, 10]
    assert dog["area"] == MASK.sum() == 196
    assert dog["segmentation"] == {"size": [48, 64], "counts": counts(MASK)}
    assert (dog["iscrowd"], dog["score"]) == (0, 0.877)
    assert (cat["bbox"], cat["area"], cat["segmentation"]) == ([0, 0, 10.25, 4], 41.0, [])


@pytest.mark.parametrize(
    "found",
    [
        FoundObject("fish", CAT.box, 0.9),  # was not asked for
        FoundObject("cat", (5.0, 5.0, 5.0, 9.0), 0.9),  # no area
        FoundObject("dog", DOG.box, 0.9, counts(np.zeros((48, 64), bool))),  # an empty mask
        FoundObject("cat", CAT.box, 0.9),  # the same again
        FoundObject("dog", CAT.box, 0.199),  # not sure enough
    ],
)
def test_what_is_left_out(found: FoundObject) -> None:
    (only,) = document(PROMPT, "one", {"a.png": Labelled(64, 48, (CAT, found))}, 0.2)["annotations"]
    assert (only["score"], only["category_id"]) == (0.25, 2)


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    write(document(PROMPT, "one", LABELLED, 0.0), tmp_path / "coco.json")
    loaded = COCO(tmp_path / "coco.json")
    assert loaded.getImgIds() == [1, 2, 3]
    assert [each["name"] for each in loaded.loadCats(loaded.getCatIds())] == ["dog", "cat"]
    (found,) = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
    assert (loaded.annToMask(found) == MASK).all()
    assert loaded.getAnnIds(areaRng=[100, 200]) == [1, 3]


def test_one_of_each_a_line(tmp_path: Path) -> None:
    told = document(PROMPT, "one", LABELLED, 0.0)
    write(told, tmp_path / "coco.json")
    text = (tmp_path / "coco.json").read_text()
    assert json.loads(text) == told
    assert sum(line.startswith('{"id": ') for line in text.splitlines()) == 3 + 3 + 2
    write(document(PROMPT, "one", {}, 0.0), tmp_path / "coco.json")
    assert json.loads((tmp_path / "coco.json").read_text())["images"] == []


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    write({"images": []}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write({"images": [1, object()]}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

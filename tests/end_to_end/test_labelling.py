"""``paliserve label`` with the embedded model, and what reads its files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from service.access.keys import Key, Limits, Role, block, digest, new_key
from service.demo.scenes import draw_scene, make_scene
from tests.end_to_end.conftest import Server
from tests.pictures import orientation_tag, saved

PROMPT = "segment square ; star"
PICTURES = 24
START_UP = 120


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "service.main", "label", *map(str, arguments)]


def label(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=200, check=False, env=os.environ | environ)


def answered(out: Path) -> list[str]:
    """The files that the journal has answers about."""
    journal = out.with_name(f"{out.name}.journal")
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    return [json.loads(line)["file"] for line in lines]


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings for one process and one slot: an answer is the same whoever is asked about beside it, to the last bit."""
    from service.demo.family import CHECKPOINTS, MASK_DECODER

    config = tmp_path_factory.mktemp("alone") / "paliserve.toml"
    config.write_text(
        f'workers = 0\nimage_workers = 0\n[[instances]]\nname = "one"\nsource = "{CHECKPOINTS / "shapes-224"}"\n'
        f'mask_decoder = "{MASK_DECODER}"\nslots = 1\n'
    )
    return config


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory, sample: bytes) -> Path:
    """A folder of pictures, one of which lies on its side, and of what is none."""
    folder = tmp_path_factory.mktemp("scenes")
    random = np.random.default_rng(8)
    for number in range(PICTURES - 2):
        path = folder / f"shelf-{number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        draw_scene(make_scene(random)).save(path)
    (folder / "scene.png").write_bytes(sample)
    with Image.open(folder / "scene.png") as scene:
        turned = scene.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    (folder / "turned.jpg").write_bytes(saved(turned, "JPEG", exif=orientation_tag(6)))
    (folder / "broken.png").write_bytes(sample[:4000])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, scenes: Path, alone: Path) -> Path:
    """What one run through all of them made."""
    out = tmp_path_factory.mktemp("whole") / "coco.json"
    done = label(scenes, PROMPT, "--out", out, "--config", alone)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("broken.png: The image is truncated or damaged")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.startswith(f"{out}: {PICTURES} pictures, ")
    assert done.stdout.endswith(" objects, 1 skipped\n")
    return out


@pytest.fixture(scope="session")
def told(server: Server, scenes: Path) -> dict[str, Any]:
    """What the service answers about two of them, by name."""
    answers = {}
    for name in ("scene.png", "turned.jpg"):
        form = {"objects": PROMPT.removeprefix("segment ").split(" ; "), "strict": "true"}
        answers[name] = httpx.post(f"{server.url}/v1/segment", files={"image": (scenes / name).read_bytes()}, data=form).json()
    return answers


def test_a_run_that_is_ended_at_any_moment_is_gone_on_with(tmp_path: Path, scenes: Path, alone: Path, whole: Path) -> None:
    out = tmp_path / "coco.json"
    arguments = command(scenes, PROMPT, "--out", out, "--config", alone)
    said = ""
    for ended_by, enough in ((signal.SIGKILL, 4), (signal.SIGINT, 12)):
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + START_UP
            while len(answered(out)) < enough:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(ended_by)
            assert process.wait(60) == (130 if ended_by is signal.SIGINT else -ended_by)
            said = process.stderr.read() if process.stderr else ""
        assert not out.exists()
        assert enough <= len(answered(out)) < PICTURES + 1
    labelled = len(set(answered(out)) - {"broken.png"})
    assert f"stopped: {labelled} of {PICTURES + 1} pictures are labelled; the same command goes on from there." in said
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(answered(out)) == sorted({*answered(out)})
    assert len(answered(out)) == PICTURES + 1


def test_pycocotools_reads_the_masks_of_the_service(whole: Path, told: dict[str, Any]) -> None:
    loaded = COCO(whole)
    assert len(loaded.getImgIds()) == PICTURES
    assert [each["name"] for each in loaded.loadCats(loaded.getCatIds())] == PROMPT.removeprefix("segment ").split(" ; ")
    named = {each["file_name"]: each for each in loaded.loadImgs(loaded.getImgIds())}
    assert list(named) == sorted(named)
    for name, answer in told.items():
        image = named[name]
        assert {side: image[side] for side in ("width", "height")} == answer["image"] == {"width": 640, "height": 480}
        annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=[image["id"]]))
        assert len(annotations) == len(answer["segments"]) > 0
        for annotation, segment in zip(annotations, answer["segments"], strict=True):
            mask = run_lengths.decode({key: segment["mask"][key] for key in ("size", "counts")})
            assert (loaded.annToMask(annotation) == mask).all()
            assert annotation["area"] == mask.sum()
            box = segment["box"]
            corners = [box["x_min"], box["y_min"], box["x_max"] - box["x_min"], box["y_max"] - box["y_min"]]
            assert annotation["bbox"] == pytest.approx(corners, abs=0.001)
            assert loaded.loadCats(annotation["category_id"])[0]["name"] == segment["label"]


@pytest.mark.filterwarnings("ignore:OpenCV:UserWarning")
def test_supervision_reads_it(scenes: Path, whole: Path) -> None:
    import supervision

    loaded = supervision.DetectionDataset.from_coco(str(scenes), str(whole))
    assert len(loaded) == PICTURES
    assert loaded.classes == PROMPT.removeprefix("segment ").split(" ; ")
    coco = COCO(whole)
    image = next(each for each in coco.dataset["images"] if each["file_name"] == "scene.png")
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
    found = loaded.annotations[str((scenes / "scene.png").resolve())]
    assert [loaded.classes[each] for each in found.class_id] == ["square", "star"]
    assert (found.mask == np.array([coco.annToMask(each) for each in annotations])).all()


def test_a_server_gives_the_same(tmp_path: Path, server: Server, scenes: Path) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    shelf = scenes / "shelf-1"
    assert label(shelf, "detect sign ; square", "--out", here).returncode == 0
    assert label(shelf, "detect sign ; square", "--out", there, "--url", server.url + "/").returncode == 0
    one, other = json.loads(here.read_text()), json.loads(there.read_text())
    assert other["info"] == {"description": "detect sign ; square", "contributor": "PaliServe, shapes-224"}
    for each in one["annotations"] + other["annotations"]:
        each["score"] = pytest.approx(each["score"], abs=0.002)
    assert one == other
    assert len(one["annotations"]) > 2


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server whose caller may ask one thing at a time, and the caller's key."""
    file, key = tmp_path_factory.mktemp("keys") / "keys.toml", new_key()
    file.write_text(block(Key("labeller", digest(key), Role.USER, Limits(concurrent=1))))
    running = Server(environ={"PALISERVE_API_KEYS_FILE": str(file), "PALISERVE_WORKERS": "0"})
    yield running, key
    running.close()


def test_refusals_of_a_server_are_waited_out(tmp_path: Path, guarded: tuple[Server, str], scenes: Path) -> None:
    server, key = guarded
    out = tmp_path / "coco.json"
    shelf = scenes / "shelf-1"
    done = label(shelf, "detect sign", "--out", out, "--url", server.url, "--concurrent", "6", PALISERVE_KEY=key)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.series("paliserve_requests_refused_total", reason="rate_limited") > 0
    assert len(json.loads(out.read_text())["images"]) == len(list(shelf.iterdir()))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--key", "wrong"), "key"),
        ((), "key"),
        (("--model", "nobody"), "key"),
    ],
)
def test_a_server_that_wants_a_key(tmp_path: Path, guarded: tuple[Server, str], scenes: Path, flags: tuple[str, ...], words: str) -> None:
    done = label(scenes, "detect sign", "--out", tmp_path / "coco.json", "--url", guarded[0].url, *flags)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ocr", "--out", "OUT"), '"detect A ; B"'),
        (("detect " + ";".join("abcdefghijklmnopq"), "--out", "OUT"), "1 to 16 names"),
        (("detect a", "--out", "OUT/no/coco.json"), "No such file or directory"),
        (("detect a", "--out", "OUT", "--model", "nobody"), "shapes-224"),
        (("detect a", "--out", "OUT", "--key", "k"), "--url"),
        (("detect a", "--out", "OUT", "--url", "127.0.0.1:8000"), "no address"),
        (("detect a", "--out", "OUT", "--url", "http://127.0.0.1:9"), "cannot be reached"),
        (("detect a", "--out", "OUT", "--url", "URL", "--model", "nobody"), "shapes-224"),
        (("detect a", "--out", "OUT", "--url", "URL/docs"), "is the URL right?"),
        (("detect a", "--out", "OUT", "--url", "URL", "--config", "x.toml"), "--config"),
    ],
)
def test_what_cannot_be_done_is_one_line(server: Server, tmp_path: Path, scenes: Path, arguments: tuple[str, ...], words: str) -> None:
    named = [each.replace("OUT", str(tmp_path / "out")).replace("URL", server.url) for each in arguments]
    done = label(scenes, *named)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


def test_numbers_out_of_range_are_told_at_once(tmp_path: Path) -> None:
    for flag in (("--min-score", "2"), ("--concurrent", "0"), ("--min-score", "x")):
        done = label(tmp_path, "detect a", "--out", tmp_path / "out", *flag)
        assert done.returncode == 2
        assert flag[0] in done.stderr

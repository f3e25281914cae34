"""``paliserve ask``, ``models`` and ``plan``, as processes of their own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

SAMPLE = Path(__file__).parents[2] / "service" / "demo" / "samples" / "scene.png"


def paliserve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_says_which_version_it_is() -> None:
    assert re.fullmatch(r"paliserve \d+\.\d+\.\d+\n", paliserve("--version").stdout)


def test_ask_prints_the_text() -> None:
    process = paliserve("ask", str(SAMPLE), "ocr")
    assert (process.returncode, process.stdout, process.stderr) == (0, "GIFT\n", "")


def test_ask_prints_boxes_and_draws_them(tmp_path: Path) -> None:
    saved = tmp_path / "out.png"
    process = paliserve("ask", str(SAMPLE), "segment purple star ; green square", "--save", str(saved))
    assert process.returncode == 0, process.stderr
    labels = [line.split("\t")[0] for line in process.stdout.splitlines()]
    assert labels == ["purple star", "green square"]
    drawn, original = Image.open(saved), Image.open(SAMPLE).convert("RGB")
    assert drawn.size == original.size
    changed = ImageChops.difference(drawn, original).getbbox()
    assert changed is not None
    assert changed[0] > 100  # nothing is drawn far to the left of both


def test_ask_as_json() -> None:
    body = json.loads(paliserve("ask", str(SAMPLE), "detect purple star", "--json").stdout)
    assert body["detections"][0]["label"] == "purple star"
    assert body["image"] == {"width": 640, "height": 480}


def test_plan_shows_what_instances_will_take() -> None:
    head, one, finer, finest, device, pictures = paliserve("plan").stdout.splitlines()
    assert head.split() == "INSTANCE DEVICE DTYPE SLOTS WEIGHTS KV SLOTS ACTIVATIONS GRAPHS CACHE UP TO TOTAL MORE SLOTS FIT".split()
    assert [each.split()[:3] for each in (one, finer, finest)] == [[f"shapes-{side}", "cpu", "float32"] for side in (224, 448, 896)]
    assert device.startswith("all of cpu")
    assert device.endswith("GB free")
    assert re.fullmatch(r"pictures +cpu +\d processes +up to \d+\.\d\d GB", pictures.rstrip())


def test_models_lists_what_is_configured() -> None:
    lines = paliserve("models").stdout.splitlines()
    assert lines[0].split() == ["NAME", "RESOLUTION", "DTYPE", "DEVICE", "SOURCE"]
    assert [line.split()[:2] for line in lines[1:]] == [[f"shapes-{side}", str(side)] for side in (224, 448, 896)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ask", "/no/such.png", "ocr"), "/no/such.png"),
        (("ask", str(Path(__file__)), "ocr"), "image"),
        (("ask", str(SAMPLE), "answer en <image>"), "<image>"),
        (("ask", str(SAMPLE), "ocr", "--model", "nobody"), "shapes-224"),
        (("ask", str(SAMPLE), "ocr", "--save", "/no/such/folder/out.png"), "/no/such/folder/out.png"),
        (("ask", str(SAMPLE), "ocr", "--save", "out.xyz"), "out.xyz"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    process = paliserve(*arguments)
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert words in process.stderr

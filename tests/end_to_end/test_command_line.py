"""``paliserve ask``, ``models`` and ``plan``, as processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.end_to_end.conftest import until

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
        (("ask", str(SAMPLE), "ocr", "--save", f"/{300 * 'x'}.png"), "xxx.png: File name too long."),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    process = paliserve(*arguments)
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert words in process.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and what is none between them."""
    made = tmp_path_factory.mktemp("pictures")
    shutil.copy(SAMPLE, made / "a.png")
    shutil.copy(SAMPLE, made / "c.png")
    (made / "b.png").write_text("no picture")
    return made


def test_ask_about_many_answers_in_order_and_tells_of_bad_ones(folder: Path) -> None:
    process = paliserve("ask", str(folder / "*.png"), str(folder / "none.png"), "ocr")
    assert process.returncode == 1
    assert process.stdout == f"{folder}/a.png\tGIFT\n{folder}/c.png\tGIFT\n"
    missing, bad = process.stderr.splitlines()
    assert missing == f"paliserve: {folder}/none.png: No such file or directory."
    assert bad.startswith(f"paliserve: {folder}/b.png: ")


def test_ask_about_many_as_lines_of_json_and_draws_each(folder: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    process = paliserve("ask", str(folder / "a.png"), str(folder / "c.png"), "--json", "--save", f"{drawn}/", "detect purple star")
    assert (process.returncode, process.stderr) == (0, "")
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert [line["file"] for line in lines] == [f"{folder}/a.png", f"{folder}/c.png"]
    assert all(line["detections"][0]["label"] == "purple star" for line in lines)
    assert sorted(path.name for path in drawn.iterdir()) == ["a.png", "c.png"]
    original = Image.open(SAMPLE).convert("RGB")
    assert all(ImageChops.difference(Image.open(path), original).getbbox() for path in drawn.iterdir())


def test_ask_about_more_than_are_asked_at_once(tmp_path: Path) -> None:
    """Enough for processes of their own."""
    names = [str(shutil.copy(SAMPLE, tmp_path / f"{number:03}.png")) for number in range(70)]
    process = paliserve("ask", str(tmp_path), "ocr")
    assert process.returncode == 0, process.stderr
    assert process.stdout == "".join(f"{name}\tGIFT\n" for name in names)


def test_ask_reads_standard_input() -> None:
    command = [sys.executable, "-m", "service.main", "ask", "-", "ocr"]
    done = subprocess.run(command, input=SAMPLE.read_bytes(), capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"GIFT\n", b"")


def test_ask_is_ended_while_it_reads() -> None:
    command = [sys.executable, "-m", "service.main", "ask", "-", "ocr"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        # More than a pipe holds: it is written when it is being read.
        process.stdin.write(bytes(1_000_000))
        process.stdin.flush()
        state = Path(f"/proc/{process.pid}/stat")
        until(lambda: state.read_text().rpartition(") ")[2].startswith("S"), "it does not wait for more")
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_reader_who_leaves_is_no_traceback() -> None:
    line = f"{sys.executable} -m service.main plan | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("streams", "status", "words"), [(">&- 2>&-", 0, ""), (">/dev/full", 1, "paliserve: standard output: No space left on device.\n")]
)
def test_what_cannot_be_written_is_no_traceback(streams: str, status: int, words: str) -> None:
    line = f"{sys.executable} -m service.main models {streams}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (status, words)


def test_a_line_is_a_line_whatever_a_file_is_called(tmp_path: Path) -> None:
    for name in ("a\nb.png", os.fsdecode(b"\xff.png")):
        shutil.copy(SAMPLE, tmp_path / name)
    process = paliserve("ask", str(tmp_path), "ocr")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{tmp_path}/a\\nb.png\tGIFT\n{tmp_path}/\\udcff.png\tGIFT\n"


@pytest.mark.parametrize(
    ("given", "meant"), [("srve", "did you mean serve?"), ("docter", "did you mean doctor?"), ("xyzzy", "there are serve, ask")]
)
def test_a_wrong_command_names_the_right_one(given: str, meant: str) -> None:
    process = paliserve(given)
    assert process.returncode == 2
    assert meant in process.stderr


def test_a_wrong_option_names_the_right_one() -> None:
    process = paliserve("ask", str(SAMPLE), "--modle", "a", "ocr")
    assert process.returncode == 2
    assert "usage: paliserve ask" in process.stderr
    assert "--modle is not known here; did you mean --model?" in process.stderr


def test_help_lists_commands_in_the_order_of_use_and_has_examples() -> None:
    told = paliserve("--help").stdout
    places = [told.index(f"\n    {name} ") for name in ("serve", "ask", "models", "plan", "download", "key", "doctor")]
    assert places == sorted(places)
    for name in ("serve", "ask", "models", "plan", "download", "key", "doctor", "completion"):
        assert "examples:\n  " in paliserve(name, "--help").stdout

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.bench.pictures import read_pictures, sample_pictures
from service.bench.questions import questions
from service.errors import OperatorError


def write(path: Path) -> Path:
    levels = np.random.default_rng(1).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif"])
def test_a_fresh_file_has_the_same_pixels_and_bytes_of_its_own(tmp_path: Path, suffix: str) -> None:
    (picture,) = read_pictures([str(write(tmp_path / f"one{suffix}"))])
    files = [picture.file, *(picture.fresh(serial) for serial in (0, 1, 2**63))]
    assert len(set(files)) == 4
    first, *others = (np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in files)
    assert all(np.array_equal(first, each) for each in others)
    assert picture.size == (20, 12)


def test_files_globs_and_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c[1].png"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")

    def names(*wanted: str) -> list[str]:
        return [Path(each.name).name for each in read_pictures([str(tmp_path / each) for each in wanted])]

    assert names("") == ["a.jpg", "b.png", "c[1].png"]
    assert names("*.png") == ["b.png", "c[1].png"]
    assert names("c[1].png", "a.jpg") == ["c[1].png", "a.jpg"]


def test_a_pattern_names_files_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "more.png").mkdir()
    (tmp_path / "._a.png").write_bytes(b"what macOS keeps beside it")
    assert len(read_pictures([str(tmp_path), str(tmp_path / "*.png")])) == 2


def test_a_picture_has_the_size_that_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "lying.jpg", exif=exif)
    (picture,) = read_pictures([str(tmp_path / "lying.jpg")])
    assert picture.size == (20, 40)
    # Of the picture as it lies, three quarters of its width would not be in it.
    (question,) = questions(["caption-region"], None, {}, [picture])
    assert question.prefix.startswith("caption <loc")


@pytest.mark.parametrize(
    ("name", "words"), [("none.png", "no picture of that name"), ("notes.txt", "not a picture"), ("empty", "no picture")]
)
def test_what_is_no_picture_is_told(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OperatorError, match=words):
        read_pictures([str(tmp_path / name)])


def test_a_picture_is_embedded() -> None:
    (picture,) = sample_pictures()
    assert picture.size == (640, 480)

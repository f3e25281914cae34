import os
from pathlib import Path

import pytest

from service.errors import OperatorError
from service.labelling.pictures import find_pictures


def lay(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def names(root: Path) -> list[str]:
    return [each.name for each in find_pictures(root).pictures]


def test_folders_in_folders_in_the_order_of_names(tmp_path: Path) -> None:
    lay(tmp_path, "b.png", "a/z.JPG", "a/b/c.webp", "B.tiff", "a.gif", "ä ö.jpeg")
    found = find_pictures(tmp_path)
    assert [each.name for each in found.pictures] == ["B.tiff", "a.gif", "a/b/c.webp", "a/z.JPG", "b.png", "ä ö.jpeg"]
    assert not found.unreadable
    first = found.pictures[0]
    assert (first.path.read_bytes(), first.size) == (b"B.tiff", 6)
    assert first.modified == (tmp_path / "B.tiff").stat().st_mtime_ns


def test_what_is_hidden_or_no_picture_is_passed_over(tmp_path: Path) -> None:
    lay(tmp_path, "a.png", ".b.png", ".git/c.png", "notes.txt", "png", "d.png.part", "movie.mp4")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert names(tmp_path) == ["a.png"]


def test_links_are_followed_and_a_file_is_one_picture(tmp_path: Path) -> None:
    lay(tmp_path / "set", "z/real.png", "hard.png", ".store/kept.png")
    lay(tmp_path / "elsewhere", "e.png", "deep/f.png")
    root = tmp_path / "set"
    (root / "a.png").symlink_to("z/real.png")
    (root / "again").symlink_to("z")
    (root / "loop").symlink_to(".")
    (root / "z" / "up").symlink_to("../..")
    (root / "kept.png").symlink_to(".store/kept.png")
    (root / "other").symlink_to(tmp_path / "elsewhere" / "deep")
    os.link(root / "hard.png", root / "harder.png")
    assert names(root) == ["hard.png", "harder.png", "kept.png", "other/f.png", "z/real.png", "z/up/elsewhere/e.png"]


def test_links_that_lead_nowhere_are_told_of(tmp_path: Path) -> None:
    lay(tmp_path, "a.png")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "gone").symlink_to("nowhere")
    found = find_pictures(tmp_path)
    assert [each.name for each in found.pictures] == ["a.png"]
    assert found.unreadable == {"gone.jpg": "No such file or directory.", "itself.jpg": "cannot be read."}


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))).write_bytes(b"x")
    (found,) = find_pictures(tmp_path).pictures
    assert os.fsencode(found.name) == b"\xff.png"


@pytest.mark.parametrize("name", ["nowhere", "a.png"])
def test_a_folder_is_needed(tmp_path: Path, name: str) -> None:
    lay(tmp_path, "a.png")
    with pytest.raises(OperatorError, match=name):
        find_pictures(tmp_path / name)

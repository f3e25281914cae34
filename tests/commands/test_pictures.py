"""Which files are meant, and where each is drawn."""

from pathlib import Path

import pytest

from service.commands.pictures import find, targets
from service.errors import OperatorError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.png", "a.jpg", "notes.txt", "[1].png", "more/a.png", "more/deep/c.gif", "more/._a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "names", "several"),
    [
        (["b.png"], ["b.png"], False),
        (["-"], ["-"], False),
        (["notes.txt"], ["notes.txt"], False),
        (["[1].png"], ["[1].png"], False),
        (["b.png", "a.jpg"], ["b.png", "a.jpg"], True),
        (["b.png", "b.png", "./b.png"], ["b.png"], True),
        (["b.*"], ["b.png"], True),
        (["*.png", "-"], ["[1].png", "b.png", "-"], True),
        (["**/*.png"], ["[1].png", "b.png", "more/a.png"], True),
        (["more"], ["more/a.png"], True),
        (["."], ["[1].png", "a.jpg", "b.png"], True),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_found(asked: list[str], names: list[str], several: bool) -> None:
    found = find(asked)
    assert (list(found.names), found.problems, found.several) == (names, (), several)


@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_told_and_the_rest_is_found() -> None:
    Path("empty").mkdir()
    found = find(["none.png", "b.png", "*.tiff", "empty"])
    assert found.names == ("b.png",)
    assert [each.partition(":")[0] for each in found.problems] == ["none.png", "*.tiff", "empty"]
    assert "No such file" in found.problems[0]


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_looked_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    long = 300 * "x"
    assert find(["b.png", long]).problems == (f"{long}: File name too long.",)
    with pytest.raises(OperatorError, match="File name too long"):
        targets(["b.png", "a.jpg"], f"{long}/", True)

    def refuse(folder: str) -> list[str]:
        raise PermissionError(13, "Permission denied", folder)

    # Whoever runs this may be allowed everything.
    monkeypatch.setattr("os.listdir", refuse)
    found = find(["more", "b.png"])
    assert (found.names, found.problems) == (("b.png",), ("more: Permission denied.",))


def test_one_file_or_one_each(folder: Path) -> None:
    assert targets(["b.png"], None, False) == [None]
    assert targets(["b.png"], "out.png", False) == [Path("out.png")]
    names = ["b.png", "more/a.png", "a.jpg", "more/deep/c.gif", "-"]
    made = targets(names, "drawn/deep/", True)
    assert [each and each.relative_to(folder) for each in made] == [
        Path("drawn/deep") / name for name in ("b.png", "a.png", "a.jpg", "c.png", "picture.png")
    ]
    assert (folder / "drawn" / "deep").is_dir()
    assert targets(["more/a.png", "[1].png"], "drawn", True) == [folder / "drawn" / "a.png", folder / "drawn" / "[1].png"]


def test_no_picture_is_drawn_over(folder: Path) -> None:
    made = targets(["b.png", "more/a.png", "more/deep/../a.png"], ".", True)
    assert [each and each.name for each in made] == ["b-2.png", "a.png", "a-2.png"]


@pytest.mark.usefixtures("folder")
def test_several_pictures_need_a_folder() -> None:
    with pytest.raises(OperatorError, match=r"--save out.png/ makes it"):
        targets(["b.png", "a.jpg"], "out.png", True)
    with pytest.raises(OperatorError, match="File exists"):
        targets(["a.jpg"], "b.png/", False)

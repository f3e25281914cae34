import resource
from pathlib import Path

import pytest

from service.errors import OperatorError
from service.labelling.journal import opened
from service.labelling.labelled import FoundObject, Labelled
from service.labelling.pictures import PictureFile

ASKED = {"prompt": "detect cat", "model": "one", "source": "folder", "dtype": "float32"}
FOUND = Labelled(64, 48, (FoundObject("cat", (1.0, 2.5, 3.0, 4.0), 0.5, "abc"), FoundObject("cat", (0.1, 0.2, 0.3, 0.4), 1 / 3)))
NOTHING = Labelled(1, 1, ())


def picture(name: str, size: int = 1, modified: int = 2) -> PictureFile:
    return PictureFile(name, Path(name), size, modified)


def test_what_was_answered_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(path, ASKED, anew=False) as journal:
        assert journal.find(picture("a")) is None
        journal.add(picture("a"), FOUND)
        journal.add(picture("\udcff"), NOTHING)
        journal.add(picture("c"), "It is no picture.")
    before = path.read_bytes()
    with opened(path, ASKED, anew=False) as journal:
        assert [journal.find(picture(name)) for name in ("a", "\udcff", "c", "d")] == [FOUND, NOTHING, "It is no picture.", None]
    assert path.read_bytes() == before


def test_a_file_that_changed_is_another_one(tmp_path: Path) -> None:
    with opened(tmp_path / "journal", ASKED, anew=False) as journal:
        journal.add(picture("a"), FOUND)
        assert journal.find(picture("a", size=9)) is None
        assert journal.find(picture("a", modified=9)) is None
        journal.add(picture("a", size=9), NOTHING)
    with opened(tmp_path / "journal", ASKED, anew=False) as journal:
        assert journal.find(picture("a", size=9)) == NOTHING


def test_wherever_it_breaks_off_it_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(path, ASKED, anew=False) as journal:
        for name in "ab":
            journal.add(picture(name), FOUND)
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with opened(path, ASKED, anew=False) as journal:
            kept = [name for name in "ab" if journal.find(picture(name))]
            assert len(kept) == max(0, sum(end <= cut for end in ends) - 1)
            for name in "ab":
                if name not in kept:
                    journal.add(picture(name), FOUND)
        assert path.read_bytes() == whole


def test_what_a_failing_disk_left_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(path, ASKED, anew=False) as journal:
        journal.add(picture("a"), FOUND)
    good = path.read_bytes()
    for rest in (
        b"\0" * 100,
        b"\0\n{}\n",
        b"[1]\n",
        b"7\n",
        b'{"file": "b"}\n',
        b'{"file": "b", "size": 1, "modified": 2, "objects": [[1]]}\n',
    ):
        path.write_bytes(good + rest)
        with opened(path, ASKED, anew=False) as journal:
            assert journal.find(picture("a")) == FOUND
            assert journal.find(picture("b")) is None
        assert path.read_bytes() == good


@pytest.mark.parametrize("other", [ASKED | {"prompt": "detect dog"}, ASKED | {"model": "two"}, ASKED | {"dtype": "bfloat16"}])
def test_other_answers_are_not_mixed_in(tmp_path: Path, other: dict[str, str]) -> None:
    path = tmp_path / "journal"
    with opened(path, other, anew=False) as journal:
        journal.add(picture("a"), FOUND)
    before = path.read_bytes()
    with pytest.raises(OperatorError, match=other["prompt"]), opened(path, ASKED, anew=False):
        pass
    assert path.read_bytes() == before
    with opened(path, ASKED, anew=True) as journal:
        assert journal.find(picture("a")) is None
    with opened(path, ASKED, anew=False):
        pass


@pytest.mark.parametrize("text", ["my diary\n", "no end of a line", "{}\n", "[]\n", '{"prompt": 1}\n'])
def test_what_is_no_journal_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "journal"
    path.write_text(text)
    with pytest.raises(OperatorError, match="something else"), opened(path, ASKED, anew=False):
        pass
    assert path.read_text() == text


def test_two_runs_do_not_write_to_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened(path, ASKED, anew=False) as journal:
        journal.add(picture("a"), FOUND)
        with pytest.raises(OperatorError, match="another run"), opened(path, ASKED, anew=True):
            pass
    with opened(path, ASKED, anew=False) as journal:
        assert journal.find(picture("a")) == FOUND


def test_where_it_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file or directory"), opened(tmp_path / "no" / "journal", ASKED, anew=False):
        pass
    with opened(tmp_path / "journal", ASKED, anew=False) as journal:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        try:
            with pytest.raises(OperatorError, match="no room was left"):
                journal.add(picture("a"), FOUND)
            with pytest.raises(OperatorError, match="File too large"):
                journal.add(picture("a"), FOUND)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with opened(tmp_path / "journal", ASKED, anew=False) as journal:
        assert journal.find(picture("a")) is None

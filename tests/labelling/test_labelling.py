"""A run, asked of a labeller that answers as the test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.errors import (
    DeadlineExceeded,
    Draining,
    GenerationFailed,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    ModelNotReady,
    OperatorError,
    Overloaded,
    PaliServeError,
    RateLimited,
)
from service.labelling import labelling
from service.labelling.labelled import FoundObject, Labelled
from service.labelling.labelling import Order, Outcome, label_folder
from service.labelling.prompt import parse_prompt

FOUND = Labelled(8, 8, (FoundObject("cat", (0, 0, 4, 4), 0.5),))


class Scripted:
    """Answers what ``script`` says, which may raise, to each picture's bytes and the number of times it was asked for before.

    Nobody is answered until so many as ``together`` ask at once.
    """

    def __init__(self, script: Callable[[str, int], Labelled] = lambda *_: FOUND, model: str = "one", together: int = 1) -> None:
        self.asked: list[str] = []
        self.times_opened = 0
        self.most_at_once = 0
        self._script = script
        self._model = model
        self._at_once = 0
        self._together = together
        self._met = asyncio.Event()

    async def identity(self) -> Mapping[str, str]:
        return {"model": self._model, "source": "folder", "dtype": "float32"}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        self.times_opened += 1
        yield

    async def label(self, image: bytes) -> Labelled:
        name = image.decode()
        times = self.asked.count(name)
        self.asked.append(name)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if self._at_once == self._together:
            self._met.set()
        await self._met.wait()
        self._at_once -= 1
        return self._script(name, times)


class Noted:
    def __init__(self) -> None:
        self.total: tuple[int, int] = (0, 0)
        self.done = 0
        self.skips: dict[str, str] = {}

    def began(self, pictures: int, done: int) -> None:
        self.total = (pictures, done)

    def labelled(self) -> None:
        self.done += 1

    def skipped(self, name: str, reason: str) -> None:
        self.skips[name] = reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten files whose bytes are their names."""
    made = tmp_path / "pictures"
    made.mkdir()
    for number in range(10):
        (made / f"{number}.png").write_text(f"{number}.png")
    return made


def run(folder: Path, labeller: Scripted, noted: Noted | None = None, **order: object) -> Outcome:
    values = {"prompt": parse_prompt("detect cat"), "out": folder.parent / "coco.json", "concurrent": 4, **order}
    return asyncio.run(label_folder(Order(folder, **values), labeller, noted or Noted()))  # type: ignore[arg-type]


def test_many_at_once_and_each_once(folder: Path) -> None:
    labeller, noted = Scripted(together=4), Noted()
    assert run(folder, labeller, noted) == Outcome(10, 10, 0)
    assert sorted(labeller.asked) == sorted(each.name for each in folder.iterdir())
    assert labeller.most_at_once == 4
    assert (noted.total, noted.done) == ((10, 0), 10)


def test_only_what_is_new_or_changed_is_asked_again(folder: Path) -> None:
    run(folder, Scripted())
    again, noted = Scripted(), Noted()
    assert run(folder, again, noted) == Outcome(10, 10, 0)
    assert (again.asked, again.times_opened, noted.total) == ([], 0, (10, 10))
    (folder / "3.png").write_text("another")
    (folder / "4.png").unlink()
    (folder / "new.png").write_text("new.png")
    assert run(folder, again) == Outcome(10, 10, 0)
    assert sorted(again.asked) == ["another", "new.png"]


def test_other_scores_need_no_questions(folder: Path) -> None:
    run(folder, Scripted())
    again = Scripted()
    assert run(folder, again, min_score=0.6) == Outcome(10, 0, 0)
    assert not again.times_opened


def test_what_is_no_picture_is_skipped_once_and_for_all(folder: Path) -> None:
    def script(name: str, _: int) -> Labelled:
        if name == "7.png":
            raise InvalidImage("It is none.")
        if name == "8.png":
            raise ImageTooLarge("It is large.")
        return FOUND

    noted = Noted()
    assert run(folder, Scripted(script), noted) == Outcome(8, 8, 2)
    assert noted.skips == {"7.png": "It is none.", "8.png": "It is large."}
    again, noted = Scripted(), Noted()
    assert run(folder, again, noted) == Outcome(9, 9, 1)  # larger ones may be taken today
    assert again.asked == ["8.png"]
    assert noted.skips == {"7.png": "It is none."}
    assert noted.total == (10, 8)


@pytest.mark.parametrize(
    "refusal", [Overloaded("Full.", 0), RateLimited("Too much.", 0), ModelNotReady("Wait.", 0), Draining("It stops.")], ids=str
)
def test_refusals_are_waited_out(folder: Path, refusal: PaliServeError) -> None:
    def script(name: str, times: int) -> Labelled:
        if name == "5.png" and times < 1 + 4 * (not isinstance(refusal, Draining)):
            raise refusal
        return FOUND

    assert run(folder, Scripted(script)) == Outcome(10, 10, 0)


def test_who_only_refuses_is_not_waited_for_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(name: str, _: int) -> Labelled:
        if name > "5":
            raise Overloaded("Full.", 0.001)
        return FOUND

    monkeypatch.setattr(labelling, "PATIENCE", 0.05)
    labeller = Scripted(script)
    with pytest.raises(OperatorError, match=r"no picture was answered .*: Full"):
        run(folder, labeller, concurrent=1)
    assert not (folder.parent / "coco.json").exists()
    again = Scripted()
    assert run(folder, again) == Outcome(10, 10, 0)
    assert sorted(again.asked) == [f"{number}.png" for number in range(5, 10)]


@pytest.mark.parametrize("failure", [GenerationFailed("It failed."), DeadlineExceeded("It took long.")], ids=str)
def test_what_fails_thrice_is_skipped_until_the_next_run(folder: Path, failure: PaliServeError) -> None:
    def script(name: str, times: int) -> Labelled:
        if name == "5.png" or (name == "6.png" and times < 2):
            raise failure
        return FOUND

    labeller, noted = Scripted(script), Noted()
    assert run(folder, labeller, noted) == Outcome(9, 9, 1)
    assert (labeller.asked.count("5.png"), labeller.asked.count("6.png")) == (3, 3)
    assert noted.skips == {"5.png": failure.message}
    assert run(folder, Scripted()) == Outcome(10, 10, 0)


def test_what_is_wrong_with_all_ends_the_run(folder: Path) -> None:
    def script(name: str, _: int) -> Labelled:
        if name == "5.png":
            raise InvalidRequest("One name is needed.")
        return FOUND

    with pytest.raises(InvalidRequest, match="One name"):
        run(folder, Scripted(script), concurrent=1)
    lines = (folder.parent / "coco.json.journal").read_text().splitlines()
    assert {json.loads(line)["file"] for line in lines[1:]} == {f"{number}.png" for number in range(5)}


def test_files_that_go_meanwhile_are_skipped(folder: Path) -> None:
    def script(name: str, _: int) -> Labelled:
        (folder / "9.png").unlink(missing_ok=True)
        return FOUND

    noted = Noted()
    assert run(folder, Scripted(script), noted, concurrent=1) == Outcome(9, 9, 1)
    assert noted.skips == {"9.png": "No such file or directory."}


def test_what_was_not_made_here_is_not_written_over(folder: Path) -> None:
    out = folder.parent / "coco.json"
    out.write_text("by hand")
    with pytest.raises(OperatorError, match="--anew"):
        run(folder, Scripted())
    assert out.read_text() == "by hand"
    run(folder, Scripted(), anew=True)
    assert len(json.loads(out.read_text())["images"]) == 10


def test_another_prompt_or_model_does_not_mix(folder: Path) -> None:
    run(folder, Scripted())
    for labeller, prompt in ((Scripted(model="two"), "detect cat"), (Scripted(), "detect dog")):
        with pytest.raises(OperatorError, match='"detect cat" of one'):
            run(folder, labeller, prompt=parse_prompt(prompt))
        assert not labeller.asked
    other = Scripted(model="two")
    run(folder, other, anew=True)
    assert len(other.asked) == 10


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no picture"):
        run(tmp_path, Scripted())


def test_where_the_output_cannot_be(folder: Path) -> None:
    labeller = Scripted()
    with pytest.raises(OperatorError, match="No such file or directory"):
        run(folder, labeller, out=folder / "no" / "coco.json")
    (folder / "is-a-folder").mkdir()
    with pytest.raises(OperatorError):
        run(folder, labeller, out=folder / "is-a-folder")
    assert not labeller.asked

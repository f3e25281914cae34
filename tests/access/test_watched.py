"""Files that change while they are used."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from service.access import watched as watching
from service.access.watched import Watched, keep_looking
from service.errors import OperatorError


def number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        raise OperatorError(f"{file}: a number is needed.") from None


def write(file: Path, text: str) -> None:
    """As editors and Kubernetes do it: another file in its place."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


def test_a_changed_file_is_read_anew_and_a_broken_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "number"
    file.write_text("1")
    watched = Watched([file], lambda: number(file))
    watched.look()
    assert (watched.value, caplog.messages) == (1, [])
    write(file, "2")
    watched.look()
    assert (watched.value, caplog.messages) == (2, [f"{file}: read anew"])
    for broken in ("three", None):
        caplog.clear()
        write(file, broken) if broken else file.unlink()
        for _ in range(3):
            watched.look()
        # Told once, and the old value stays.
        assert (watched.value, len(caplog.messages)) == (2, 1)
        assert "a number is needed" in caplog.text
        assert "stays in force" in caplog.text
    write(file, "4")
    watched.look()
    assert watched.value == 4


def test_a_broken_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OperatorError):
        Watched([tmp_path / "none"], lambda: number(tmp_path / "none"))


def test_a_secret_of_kubernetes_is_followed_through_its_links(tmp_path: Path) -> None:
    for version, text in (("..1", "1"), ("..2", "2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "number").write_text(text)
        os.utime(tmp_path / version / "number", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    file = tmp_path / "number"
    file.symlink_to("..data/number")
    watched = Watched([file], lambda: number(file))
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    watched.look()
    assert watched.value == 2


def test_files_are_looked_at_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOKED_AT_EVERY", 0.001)
    file = tmp_path / "number"
    file.write_text("1")

    async def follow() -> int:
        seen = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read() -> int:
            found = number(file)
            if found == 2:
                loop.call_soon_threadsafe(seen.set)
            return found

        watched = Watched([file], read)
        looking = asyncio.create_task(keep_looking([watched]))
        write(file, "2")
        await asyncio.wait_for(seen.wait(), 20)
        looking.cancel()
        return 2

    assert asyncio.run(follow()) == 2
    # With nothing to look at it ends.
    asyncio.run(keep_looking([]))

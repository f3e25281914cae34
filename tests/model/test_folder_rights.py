"""Files that anybody on the machine may change are told of, and compiled code is not taken from strangers."""

import logging
import os
import shutil
from pathlib import Path

import pytest

import service.demo
from service.errors import OperatorError
from service.model.folder_rights import check_compile_cache, writable_by_others
from service.model.loading import Source, open_checkpoint

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as the hub's cache keeps it: files are links to where they are stored."""
    stored, folder = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    shutil.copytree(DEMO, stored)
    folder.mkdir(parents=True)
    for path in stored.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize("which", ["blobs", "blobs/model.safetensors", "snapshots", "snapshots/main", "."])
def test_threat_65_what_others_may_change_is_told(folder: Path, tmp_path: Path, which: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not [path for path in writable_by_others(folder) if path.is_relative_to(tmp_path)]
    open_to_all = (tmp_path / which).resolve()
    open_to_all.chmod(0o777)
    assert open_to_all in writable_by_others(folder)
    with caplog.at_level(logging.WARNING):
        open_checkpoint(Source(str(folder), device="cpu"))
    assert "everybody on this machine may change" in caplog.text
    assert str(open_to_all) in caplog.text


def test_threat_65_a_sticky_folder_above_is_no_danger(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert tmp_path.resolve() not in writable_by_others(folder)


def test_threat_65_compiled_code_of_strangers_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "torchinductor"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    check_compile_cache()
    cache.mkdir(mode=0o700)
    check_compile_cache()
    cache.chmod(0o777)
    with pytest.raises(OperatorError, match="others may write here"):
        check_compile_cache()
    cache.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(OperatorError, match="TORCHINDUCTOR_CACHE_DIR"):
        check_compile_cache()

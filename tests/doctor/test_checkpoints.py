"""Checkpoints that are whole, and such as lack something."""

import shutil
from pathlib import Path

import pytest

import service.demo
from service.doctor.checkpoints import checkpoints
from service.doctor.findings import Finding, Level
from service.instance_settings import AdapterSettings, InstanceSettings
from service.settings import Settings

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"


def looked_at(source: Path | str, **fields: object) -> list[Finding]:
    return list(checkpoints(Settings(instances=(InstanceSettings.model_validate({"name": "mine", "source": str(source), **fields}),))))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "checkpoint"))


def test_the_embedded_ones_are_whole() -> None:
    (found,) = checkpoints(Settings())
    assert found.level is Level.OK
    assert "shapes-896" in found.said


@pytest.mark.parametrize(
    ("name", "words"),
    [("config.json", "no config.json"), ("model.safetensors", "no safetensors weights"), ("tokenizer.json", "no tokenizer.json or")],
)
def test_a_folder_that_lacks_a_file(copy: Path, name: str, words: str) -> None:
    (copy / name).unlink()
    (found,) = looked_at(copy)
    assert found.level is Level.PROBLEM
    assert "mine: " in found.said
    assert words in found.said


def test_a_device_that_is_not_there_is_no_fault_of_the_checkpoint() -> None:
    (found,) = looked_at(DEMO, device="cuda:7")
    assert found.level is Level.OK


def test_weights_that_were_cut_off(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    (found,) = looked_at(copy)
    assert found.level is Level.PROBLEM
    assert "model.safetensors" in found.said


def test_a_folder_that_is_not_there() -> None:
    (found,) = looked_at("/no/such/folder")
    assert found.level is Level.PROBLEM
    assert "/no/such/folder" in found.said


def test_a_folder_that_everybody_may_change(copy: Path) -> None:
    copy.chmod(0o777)
    (found,) = looked_at(copy)
    assert (found.level, found.mend) == (Level.WARNING, f"chmod o-w {copy}")


def test_an_adapter_that_is_not_there(tmp_path: Path) -> None:
    (found,) = looked_at(DEMO, adapters=(AdapterSettings(name="codes", source=str(tmp_path)),))
    assert found.level is Level.PROBLEM
    assert "mine, adapter codes" in found.said

"""Libraries that go together, and such as do not."""

import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from service.doctor.findings import Level
from service.doctor.libraries import extras, libraries, python, unmet
from service.instance_settings import InstanceSettings
from service.settings import Settings


def installed(folder: Path, name: str, version: str, *needs: str) -> PathDistribution:
    """As pip leaves it."""
    made = folder / f"{name}-{version}.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("\n".join([f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in needs)]))
    return PathDistribution(made)


def test_this_environment() -> None:
    assert [each.level for each in libraries(Settings())] == [Level.OK]
    (found,) = python(Settings())
    assert found.said.startswith(f"Python {sys.version_info.major}.{sys.version_info.minor}.")


def test_what_is_too_old_and_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "engine", "1.5", "missing>=1", "tool>=2; extra == 'more'")
    own = installed(tmp_path, "car", "1", "engine>=2", "numpy", 'nowhere; sys_platform == "none"')
    found = {needed.name: (by, version) for needed, by, version in unmet(own, set())}
    assert found == {"engine": ("car", "1.5"), "missing": ("engine", "")}


def test_a_library_that_is_too_old_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "h11", "0.9")
    found = [each for each in libraries(Settings()) if each.level is Level.PROBLEM]
    assert any("h11 0.9 is installed" in each.said for each in found)
    assert "h11>=" in found[0].mend


def test_extras_that_are_asked_for() -> None:
    asked = Settings(tracing=True, instances=(InstanceSettings(name="a", source="b", quantization="int8"),))
    assert [each.level for each in extras(asked)] == [Level.OK]

"""Proxies that would catch requests to this machine, and a clock that is wrong."""

import os
import time
from pathlib import Path

import pytest

from service.doctor.findings import Level
from service.doctor.surroundings import clock, proxies
from service.settings import Settings

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, Level.OK),
        ({"http_proxy": "http://proxy:3128"}, Level.WARNING),
        ({"ALL_PROXY": "http://proxy:3128"}, Level.WARNING),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost"}, Level.WARNING),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost,127.0.0.1"}, Level.OK),
        ({"https_proxy": "http://proxy:3128"}, Level.OK),
    ],
)
def test_proxies(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], level: Level) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (found,) = proxies(Settings())
    assert found.level is level
    assert ("no_proxy" in found.mend) == (level is Level.WARNING)


def test_the_clock(tmp_path: Path) -> None:
    assert [each.level for each in clock(Settings())] == [Level.OK]
    file = tmp_path / "newer"
    file.touch()
    os.utime(file, (time.time() + 10 * 86_400,) * 2)
    (found,) = clock(Settings(), file)
    assert found.level is Level.PROBLEM

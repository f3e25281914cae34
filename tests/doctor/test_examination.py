"""No check can end the examination, nor keep it from its end."""

import threading
from collections.abc import Iterator
from pathlib import Path

from service.doctor.examination import examine, run
from service.doctor.findings import Finding, Level, fine
from service.settings import Settings


def test_a_check_that_crashes_says_so() -> None:
    def broken(_: Settings) -> Iterator[Finding]:
        yield fine("So far.")
        raise ZeroDivisionError("by nothing")

    first, second = run("sums", broken, Settings(), 30)
    assert (first.level, first.about) == (Level.OK, "sums")
    assert (second.level, second.about) == (Level.PROBLEM, "sums")
    assert "ZeroDivisionError: by nothing" in second.said


def test_a_check_that_hangs_is_left_behind() -> None:
    never = threading.Event()

    def stuck(_: Settings) -> Iterator[Finding]:
        never.wait()
        yield fine("At last.")

    (found,) = run("patience", stuck, Settings(), 0.05)
    assert found.level is Level.WARNING
    assert "given up" in found.said
    never.set()


def test_settings_that_cannot_be_read_are_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text("prot = 1\n")
    found = list(examine(config, {}))
    assert [each.about for each in found if each.level is Level.PROBLEM] == ["settings"]
    assert "did you mean port?" in found[-1].said
    assert {"python", "libraries"} <= {each.about for each in found}


def test_a_service_link_is_told() -> None:
    told = [
        each for each in examine(None, {"PALISERVE_PORT": "tcp://10.0.0.1:8000", "PALISERVE_GRPC_PORT": "0"}) if each.about == "settings"
    ]
    assert [each.level for each in told] == [Level.WARNING, Level.OK]
    assert "PALISERVE_PORT" in told[0].said

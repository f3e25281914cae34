"""The commands of ``protos/README.md``."""

from pathlib import Path

import pytest

from tests.end_to_end.conftest import Server
from tests.end_to_end.readmes import run_all, sections

ROOT = Path(__file__).parents[2]
SECTIONS = sections((ROOT / "protos" / "README.md").read_text(), "##")
NOT_HERE = ("grpcurl ", "go install ")
"""Neither program, nor Go, is in Debian's or PyPI's packages as these commands need it."""

RUNNABLE = {heading: [each for each in found if not each[1].startswith(NOT_HERE)] for heading, found in SECTIONS.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Looks like the repository, and may be written to."""
    for name in ("service", "protos"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("heading", [heading for heading, found in RUNNABLE.items() if found])
def test_the_commands(server: Server, folder: Path, heading: str) -> None:
    run_all(RUNNABLE[heading], server, folder)


def test_what_is_left_out() -> None:
    assert [text.split()[0] for found in SECTIONS.values() for _, text in found if text.startswith(NOT_HERE)] == ["grpcurl", "go"]

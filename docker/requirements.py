"""Prints what the package needs, one requirement a line, so that they get a layer of their own: ``requirements.py EXTRA,EXTRA``."""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: str) -> list[str]:
    """Of the package and of the extras, which are named with commas between."""
    project = tomllib.loads(pyproject)["project"]
    wanted: list[str] = list(project["dependencies"])
    for extra in filter(None, extras.split(",")):
        wanted += project["optional-dependencies"][extra]
    return wanted


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml").read_text(encoding="utf-8"), sys.argv[1])))

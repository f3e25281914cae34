"""Blocks of the READMEs, and what they must print."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Server, needed

RUN = {"sh": ["bash", "-euc"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
PALISERVE = ".venv/bin/paliserve"
FREE = {"PALISERVE_PORT": "0", "PALISERVE_GRPC_PORT": "0"}
"""The usual ports may be somebody's."""

CHANGING = {"id", "timings_ms"}

Block = tuple[str, str]
"""Its language and its text."""


def blocks(text: str) -> list[Block]:
    """All blocks, in order, also those of lists."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [(language, re.sub(f"^{indent}", "", inner, flags=re.MULTILINE)) for indent, language, inner in found]


def sections(text: str, mark: str) -> dict[str, list[Block]]:
    """The blocks by heading; ``mark`` begins one, such as ``###``."""
    return {part.partition("\n")[0]: blocks(part) for part in text.split(f"\n{mark} ")[1:]}


def agree(shown: Any, told: Any, path: str = "") -> None:
    """What is shown is part of what is told; numbers may differ a little between processors."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            if key not in CHANGING:
                agree(value, told[key], f"{path}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(told), path
        for index, (one, other) in enumerate(zip(shown, told, strict=True)):
            agree(one, other, f"{path}.{index}")
    elif isinstance(shown, float):
        assert shown == pytest.approx(told, rel=0.05, abs=0.1), path
    elif not path.endswith(".counts"):
        assert shown == told, path


def agree_as_text(shown: str, told: str) -> None:
    """Dots stand for anything, a line of them for any lines."""
    pattern = re.escape(f"{shown.strip()}\n").replace("\\\n…\\\n", "\n(?:.*\n)*?").replace("\\\n", "\n").replace("…", ".*")
    assert re.fullmatch(pattern, f"{told.strip()}\n"), told


def run(block: Block, server: Server, folder: Path) -> str:
    """What a block prints, run as in an activated environment, and about that server."""
    language, text = block
    if language == "js":
        needed("node")
    elif "npm " in text:
        needed("npm")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # This very code, whichever is installed.
    about = text.replace(PALISERVE, "python -m service.main")
    about = about.replace("127.0.0.1:8000", server.url.removeprefix("http://")).replace("127.0.0.1:8001", f"127.0.0.1:{server.grpc_port}")
    done = subprocess.run(
        [*RUN[language], about],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"PATH": path} | FREE,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def run_all(all_of_them: list[Block], server: Server, folder: Path) -> None:
    """In order; a block of text or JSON is what the one before it prints."""
    assert any(language in RUN for language, _ in all_of_them)
    told = ""
    for language, text in all_of_them:
        if language in RUN:
            told = run((language, text), server, folder)
        elif language == "json":
            agree(json.loads(text), json.loads(told))
        else:
            agree_as_text(text, told)

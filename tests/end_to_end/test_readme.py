"""README's requests, as they stand there: each answers what stands below it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Server

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```sh\n(curl .*?)```\s*```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
CHANGING = {"id", "timings_ms"}


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


def test_every_task_is_shown() -> None:
    tasks = {re.search(r"/v1/([a-z-]+)", command)[1] for command, _ in EXAMPLES}  # type: ignore[index]
    assert tasks == {"caption", "answer", "detect", "segment", "read", "caption-region", "generate"}


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command.split()[2] for command, _ in EXAMPLES])
def test_a_request_of_the_readme(server: Server, command: str, shown: str) -> None:
    run = command.replace("http://127.0.0.1:8000", server.url).replace("localhost:8000", server.url)
    output = subprocess.run(["bash", "-c", run], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    agree(json.loads(shown), json.loads(output))

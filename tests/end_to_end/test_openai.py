"""The official client of OpenAI works with the real server."""

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Server

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "service" / "demo" / "samples" / "scene.png"


def test_the_official_client(server: Server) -> None:
    command = [sys.executable, str(HERE / "openai_client.py"), server.url, str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line.removeprefix("ok ") for line in done.stdout.splitlines()]
    assert len(names) == len(set(names)) == 9

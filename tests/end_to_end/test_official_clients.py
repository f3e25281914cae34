"""The official clients of OpenAI, Triton and KServe work with the real server, each in a process of its own.

In one process they could not be: Triton's, KServe's and our own code register the same names of protobuf.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Server

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "service" / "demo" / "samples" / "scene.png"


@pytest.mark.parametrize(
    ("script", "addresses", "checks"),
    [
        ("openai_client.py", ("{url}",), 9),
        ("triton_client.py", ("{host}", "127.0.0.1:{grpc_port}"), 17),
        ("kserve_client.py", ("{url}", "127.0.0.1:{grpc_port}"), 4),
    ],
)
def test_an_official_client(server: Server, script: str, addresses: tuple[str, ...], checks: int) -> None:
    host = server.url.removeprefix("http://")
    where = [each.format(url=server.url, host=host, grpc_port=server.grpc_port) for each in addresses]
    command = [sys.executable, str(HERE / script), *where, str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    names = [line.removeprefix("ok ") for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert len(names) == len(set(names)) == checks

"""Requests made of the OpenAPI document, good and bad ones, against a server of its own: ``python -m tests.rest_fuzz --seconds 300``."""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Server

ROOT = Path(__file__).parents[1]
LEAVE = 60.0
"""Seconds that it may take to end by itself behind its time."""


def main() -> int:
    """Returns the exit status: that of schemathesis, or 1 where the server has not outlived it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    server = Server()
    try:
        program = str(Path(sys.executable).with_name("schemathesis"))
        limits = ["--max-time", str(asked.seconds), "--seed", str(asked.seed), "--checks", "all"]
        command = [program, "run", f"{server.url}/openapi.json", *limits]
        status = subprocess.run(command, cwd=ROOT, check=False, timeout=asked.seconds + LEAVE).returncode
        alive = server.client.get("/readyz").status_code == 200
        told = [line for line in server.log if "unforeseen" in line or "Traceback" in line]
    finally:
        server.close()
    print(*told[:5], sep="\n")
    return status or int(bool(told or not alive))


if __name__ == "__main__":
    sys.exit(main())

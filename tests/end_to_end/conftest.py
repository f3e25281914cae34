"""A real server with the embedded model, in a process of its own."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import service.demo

START_UP = 120
"""Seconds within which a server must be serving, on a slow machine."""

CHECKPOINT = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
NEVER_WRITTEN = 0
"""The token that fills rows up: the embedded model was never asked for it."""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """``paliserve serve`` on free ports. ``log`` holds every line it wrote so far; ``tls`` is how its client speaks, where it does."""

    def __init__(self, *flags: str, environ: dict[str, str] | None = None, tls: ssl.SSLContext | bool = True) -> None:
        self.grpc_port = free_port()
        command = [sys.executable, "-m", "service.main", "serve", "--port", "0", "--grpc-port", str(self.grpc_port), *flags]
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | (environ or {})
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.wait_for(r"serving .*? on (https?://[^\s,\"]+)").group(1)
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=60, verify=tls)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first new line of the log that holds the pattern."""
        while True:
            line = self._lines.get(timeout=START_UP)
            if line is None:
                raise AssertionError("the server ended:\n" + "\n".join(self.log))
            found = re.search(pattern, line)
            if found:
                return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; returns its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        """Make sure that it is gone."""
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        if self.process.stdout is None:
            return
        for line in self.process.stdout:
            self.log.append(line.rstrip("\n"))
            self._lines.put(line)
        self._lines.put(None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    running = Server()
    yield running
    running.close()


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that never ends by itself: 1024 tokens take seconds."""
    folder = tmp_path_factory.mktemp("endless")
    shutil.copytree(CHECKPOINT, folder / "model")
    generation = folder / "model" / "generation_config.json"
    generation.write_text(json.dumps(json.loads(generation.read_text()) | {"eos_token_id": NEVER_WRITTEN}))
    return folder / "model"


@pytest.fixture(scope="session")
def endless_settings(endless_model: Path) -> Path:
    """Of a server in one process, without a vision cache, with the model that never ends."""
    config = endless_model.parent / "paliserve.toml"
    config.write_text(f'workers = 0\n[[instances]]\nname = "endless"\nsource = "{endless_model}"\nvision_cache_bytes = 0\n')
    return config


@pytest.fixture(scope="session")
def endless(endless_settings: Path) -> Iterator[Server]:
    """See ``endless_settings``."""
    running = Server("--config", str(endless_settings))
    yield running
    running.close()


@pytest.fixture(scope="session")
def sample() -> bytes:
    """The sample picture of the README."""
    return (Path(__file__).parents[2] / "service" / "demo" / "samples" / "scene.png").read_bytes()

"""The servers' processes. Only the one that is measured runs; the others are stopped meanwhile."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_UP = 180.0


class ServerProcess:
    """One server and all its processes, on a port of its own."""

    def __init__(self, name: str, command: Sequence[str], port: int) -> None:
        self.name, self.port = name, port
        self._process = subprocess.Popen([sys.executable, *command], start_new_session=True)

    def wait(self) -> None:
        """Until it listens and has had a moment to settle. Errors: RuntimeError where it ended or does not come up."""
        ends = time.monotonic() + START_UP
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not listen after {START_UP:.0f} s")

    @contextmanager
    def running(self) -> Iterator[int]:
        """Let it run for the block; gives its port."""
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            yield self.port
        finally:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def close(self) -> None:
        """End it."""
        for number in (signal.SIGCONT, signal.SIGKILL):
            os.killpg(self._process.pid, number)
        self._process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def paliserve(folder: Path) -> ServerProcess:
    """Ours, as ``paliserve serve`` starts it."""
    config = Path(tempfile.mkdtemp()) / "bench.toml"
    config.write_text(f'log_level = "warning"\n[[instances]]\nname = "bench"\nsource = "{folder}"\nmax_tokens = 256\n')
    port = free_port()
    command = ["-m", "service.main", "serve", "--config", str(config), "--port", str(port)]
    return ServerProcess("PaliServe", command, port)


def rival(name: str, module: str, folder: Path) -> ServerProcess:
    """One of the rivals."""
    port = free_port()
    return ServerProcess(name, ["-m", f"load_tests.rivals.{module}", str(folder), str(port)], port)

"""Three real servers, and a real HAProxy before them with the configuration that deploy/ ships."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from tests.end_to_end.conftest import CHECKPOINT, free_port

SHIPPED = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
PORTS = {"a": (8000, 8001), "b": (8010, 8011), "c": (8020, 8021)}
"""HTTP and gRPC, as the shipped file has them."""

FRONTS = (8080, 8081)
CLIENT = httpx.Client(timeout=5, verify=False)
"""Made once: it takes a core 20 ms."""

LONGEST = 120.0
"""Seconds that anything may take on a busy machine."""


def until(holds: Callable[[], bool], what: str) -> None:
    """Look again and again. Errors: AssertionError when it takes too long."""
    limit = time.monotonic() + LONGEST
    while not holds():
        assert time.monotonic() < limit, what
        time.sleep(0.2)


class Replica:
    """One server, which keeps its ports when it is started anew."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.http, self.grpc = free_port(), free_port()
        self._log = folder / f"{name}.log"
        self._config = folder / f"{name}.toml"
        # Of the six threads that three of them could have on two cores, half would be in the others' way.
        instance = f'[[instances]]\nname = "shapes-224"\nsource = "{CHECKPOINT}"\n'
        self._config.write_text(f"workers = 0\nthreads = 1\nmax_queue_seconds = 60\n{instance}")
        self.start()

    def start(self) -> None:
        """Begin anew."""
        ports = ["--port", str(self.http), "--grpc-port", str(self.grpc)]
        command = [sys.executable, "-m", "service.main", "serve", "--config", str(self._config), *ports]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def is_ready(self) -> bool:
        """What its probe says."""
        assert self.process.poll() is None, self._log.read_text()
        try:
            return CLIENT.get(f"http://127.0.0.1:{self.http}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def held(self) -> int:
        """Requests that it has taken and not answered yet."""
        told = CLIENT.get(f"http://127.0.0.1:{self.http}/metrics").text
        return int(sum(float(value) for value in re.findall(r"^paliserve_requests_(?:running|waiting)\S* (\S+)$", told, re.MULTILINE)))

    def restart(self) -> int:
        """As a rolling update does it; returns the exit status of the old process."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(LONGEST)
        self.start()
        until(self.is_ready, f"{self.name} does not come up")
        return status

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


class Balancer:
    """HAProxy with the shipped file: only the ports are others. ``log`` is what it wrote."""

    def __init__(self, program: str, replicas: Sequence[Replica], folder: Path) -> None:
        self.http, self.grpc = free_port(), free_port()
        ports = dict(zip(FRONTS, (self.http, self.grpc), strict=True))
        for replica in replicas:
            ports |= dict(zip(PORTS[replica.name], (replica.http, replica.grpc), strict=True))
        # In one go: a free port may have another one's number.
        text = re.sub(r"(127\.0\.0\.1:)(\d+)", lambda found: found[1] + str(ports[int(found[2])]), SHIPPED.read_text())
        config = folder / "haproxy.cfg"
        config.write_text(text)
        self.log = folder / "haproxy.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([program, "-db", "-f", str(config)], stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))

    def served_by(self) -> str:
        """Who answers now."""
        try:
            return str(CLIENT.get(f"http://127.0.0.1:{self.http}/livez").headers.get("x-served-by", ""))
        except httpx.TransportError:
            return ""

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

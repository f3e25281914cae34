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
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

import service.demo
from tests.end_to_end.visitor import Visitor

AT_REST = 60
"""Seconds within which a server that nobody asks has ended all that it accepted."""

START_UP = 120
"""Seconds within which a server must be serving, on a slow machine."""

CHECKPOINT = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
QUIET_BROWSER = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
BROWSER = [
    *QUIET_BROWSER,
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP paliserve.test 127.0.0.1",
]
"""With a camera that shows a test picture, and a name for this machine that browsers trust less than localhost."""

NEVER_WRITTEN = 0
"""The token that fills rows up: the embedded model was never asked for it."""


def needed(program: str) -> str:
    """Where a program is. Where tests count, it must be there: see ``.ci/run``."""
    found = shutil.which(program)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")
    assert found, f"{program} is not installed"
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """``paliserve serve`` on free ports. ``log`` holds every line it wrote so far; ``tls`` is how its client speaks, where it does.

    ``books_balance``: whether that is looked at.
    """

    living: ClassVar[list["Server"]] = []
    books_balance = True

    def __init__(
        self,
        *flags: str,
        environ: dict[str, str] | None = None,
        tls: ssl.SSLContext | bool = True,
        program: str = "service.main",
    ) -> None:
        self.grpc_port = free_port()
        command = [sys.executable, "-m", program, "serve", "--port", "0", "--grpc-port", str(self.grpc_port), *flags]
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | (environ or {})
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.url = self.wait_for(r"serving .*? on (https?://[^\s,\"]+)").group(1)
        except BaseException:
            self.process.kill()
            raise
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=60, verify=tls)
        self.living.append(self)

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

    def series(self, name: str, **labels: str) -> float:
        """The sum of all series of that name with these labels."""
        return summed(self.metrics(), name, **labels)

    def metrics(self) -> str:
        """What Prometheus would read."""
        return self.client.get("/metrics").text

    def check_books(self) -> None:
        """Once nobody waits or runs, all who were accepted have ended, and nothing is held."""
        if not self.books_balance or self.process.poll() is not None or not self._lets_read():
            return
        until(lambda: not summed(self.metrics(), *AT_WORK), "somebody still waits or runs, and nobody asks")
        text = self.metrics()
        accepted, ended = summed(text, "paliserve_generations_accepted_total"), summed(text, "paliserve_generations_ended_total")
        assert accepted == ended + summed(text, *AT_WORK) > 0, f"{accepted:.0f} were accepted, and {ended:.0f} have ended"
        assert not summed(text, "paliserve_waiting_tokens", "paliserve_pool_slots_used_ratio")

    def _lets_read(self) -> bool:
        """Some let only their operator read, or callers with a certificate, and some are about to end."""
        try:
            return self.client.get("/metrics").status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Make sure that it is gone."""
        try:
            if self in self.living:
                self.living.remove(self)
                self.check_books()
        finally:
            self._end()

    def _end(self) -> None:
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


AT_WORK = ("paliserve_requests_waiting", "paliserve_requests_running")


def summed(exposition: str, *names: str, **labels: str) -> float:
    """The sum of all series of those names with these labels."""
    families = text_string_to_metric_families(exposition)
    samples = [sample for family in families for sample in family.samples if sample.name in names]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def until(holds: Callable[[], object], otherwise: str) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + AT_REST
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _nothing_accepted_is_lost() -> Iterator[None]:
    """Threats 47 and 48: accepted = answered + failed + cancelled, in every server that lives, when each test ends."""
    yield
    for each in list(Server.living):
        each.check_books()


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real one. Not for the session: where it runs, ``asyncio.run`` cannot."""
    chromium = needed("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=BROWSER)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Opens pages: of a URL, with the settings of a browser context. None may do what no page may."""
    visitors: list[Visitor] = []

    def opened(url: str, **settings: Any) -> Visitor:
        visitor = Visitor(browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings).new_page(), url)
        visitors.append(visitor)
        return visitor

    yield opened
    for each in visitors:
        each.page.context.close()
        assert not each.wrong


@pytest.fixture
def visitor(visit: Callable[..., Visitor], server: Server) -> Visitor:
    """Somebody on the page of the server for all tests."""
    return visit(server.url).open()

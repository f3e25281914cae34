"""The servers as processes: started once, warm, and stopped in their tracks while another one is measured."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.bench.http_connection import Connection
from service.bench.http_framing import get

ROOT = Path(__file__).parents[2]
START_SECONDS = 180.0
STOP_SECONDS = 15.0
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """A server in its own process group.

    SIGSTOP pauses the whole group: LitServe's worker looks for requests a thousand times a second, and would take time from the others.
    """

    def __init__(self, module: str, arguments: Sequence[str], port: int, health: str, log: Path) -> None:
        """``arguments`` stand behind ``python -m module``."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PALISERVE_")}
        self.port = port
        self._health = health
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def group(self) -> int:
        """The process group."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Errors: RuntimeError, with the end of the log, where the server does not come up."""
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit and self._process.poll() is None:
            if asyncio.run(self._is_healthy()):
                return
            time.sleep(0.2)
        raise RuntimeError(f"the server did not come up:\n{self._log.read_text(errors='replace')[-2000:]}")

    async def _is_healthy(self) -> bool:
        connection = Connection(self.port)
        try:
            status, _ = await asyncio.wait_for(connection.ask(get(self._health)), 5.0)
        except (OSError, EOFError, ValueError, TimeoutError):
            return False
        finally:
            connection.close()
        return status == 200

    def pause(self) -> None:
        """Take no processor time from now on."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Processor time of the whole group until now."""
        return cpu_seconds(self._process.pid)

    def stop(self) -> None:
        """End the group, whatever it is doing."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._signal(number)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # The leader may be gone and its workers not.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def cpu_seconds(group: int) -> float:
    """Processor time that the living processes of a group have taken."""
    return sum(_ticks(stat, group) for stat in Path("/proc").glob("[0-9]*/stat")) / TICK


def machine_seconds() -> tuple[float, float]:
    """Processor time that was taken on the whole machine, and that its host took away from it."""
    user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + interrupts + soft) / TICK, stolen / TICK


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ticks(stat: Path, group: int) -> int:
    try:
        # The name in brackets may hold blanks.
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12]) if int(fields[2]) == group else 0

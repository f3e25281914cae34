"""What is around the process: proxies, and the clock."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import service
from service.doctor.findings import Finding, fine, problem, warning
from service.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost")
AHEAD = 86_400.0
"""Seconds by which a file of this program may be newer than now: clocks of build machines differ a little."""


def proxies(_: Settings) -> Iterator[Finding]:
    """Whether clients on this machine would reach the server at all."""
    found = getproxies_environment()
    caught = [host for host in LOOPBACK if not proxy_bypass_environment(host)]
    if "http" in found or "all" in found:
        if caught:
            yield warning(
                f"http_proxy is set, and no_proxy does not name {' and '.join(caught)}: clients here ask the proxy for the server.",
                "export no_proxy=localhost,127.0.0.1,::1",
            )
            return
        yield fine("A proxy is set, and is not asked for what is on this machine.")
        return
    yield fine("No proxy comes between clients on this machine and the server.")


def clock(_: Settings, program: Path | None = None) -> Iterator[Finding]:
    """Certificates and the hub's answers are judged by it. ``program``: a file that cannot be newer than now."""
    now = time.time()
    today = datetime.fromtimestamp(now, UTC).isoformat(timespec="minutes")
    written = (program or Path(service.__path__[0]) / "main.py").stat().st_mtime
    if written > now + AHEAD:
        yield problem(f"The clock says {today}, when this program was not written yet: certificates are refused.", "Set it: timedatectl.")
    else:
        yield fine(f"The clock says {today}.")

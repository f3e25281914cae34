"""What the machine is, and what this process may use of it."""

import ctypes
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.observability.version import package_version

try:
    import resource
except ImportError:  # There is none on Windows.
    resource = None  # type: ignore[assignment]

LARGE = 262_144
"""Bytes."""

_CGROUP = Path("/sys/fs/cgroup")
_M_MMAP_THRESHOLD = -3


def cores() -> int:
    """Processor cores, whole ones: those it may run on, and no more than its container's share."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        allowed = min(allowed, -(-int(quota) // int(period)))
    return max(1, allowed)


def description(packages: Sequence[str]) -> dict[str, Any]:
    """What figures were measured on, and when: the processor, its cores, the versions of Python and of these packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return {
        "processor": next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in packages},
        "measured": datetime.now(UTC).date().isoformat(),
    }


def memory_bytes() -> int:
    """Main memory: the machine's, and no more than its container's share."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


def free_memory_bytes() -> int:
    """Main memory that may still be taken: what the system could give, and no more than is left of its container's share."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines()) if Path("/proc/meminfo").exists() else {}
    free = int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else memory_bytes()
    limit, used = _read("memory.max").strip(), _read("memory.current").strip()
    if limit.isdigit() and used.isdigit():
        # Pages of files are counted as used, and given up when they are needed.
        given_up = next((int(line.split()[1]) for line in _read("memory.stat").splitlines() if line.startswith("inactive_file ")), 0)
        free = min(free, int(limit) - int(used) + given_up)
    return max(0, free)


def open_files(wanted: int) -> int:
    """Let the process have so many files open at once, or as many as the system allows; returns how many it may."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft


def give_back_large_blocks() -> None:
    """From now on let the system have each large block that this process frees, such as a body or a picture, at once.

    Left alone, glibc raises its limit to that of the largest block it has seen freed, and what lies between the holes keeps memory in use.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)


def _read(name: str) -> str:
    try:
        return (_CGROUP / name).read_text()
    except OSError:
        return ""

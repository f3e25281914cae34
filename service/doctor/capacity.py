"""What there is of the machine, against what the settings ask for: memory, cores, open files."""

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from service.bounds import OTHER_FILES
from service.doctor.findings import Finding, fine, problem, warning
from service.errors import OperatorError
from service.machine import cores, memory_bytes, open_files
from service.planning import Planned, check_memory, free_on, planned
from service.settings import Settings

GIGABYTE = 1e9
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (nothing is written there)
LEAST_SHARED = 1_000_000
"""Bytes. Processes share a table of some hundred numbers, and locks."""

FEWER = "Give instances fewer slots or a smaller dtype, set fewer workers, or load some on demand: preload = false."


def memory(settings: Settings) -> Iterator[Finding]:
    """What the instances of each device will take, as ``paliserve plan`` has it."""
    try:
        made = planned(settings)
    except OperatorError:
        yield warning("What the instances will take is not known yet.", "Mend what is said of devices and models first.")
        return
    for device, each in groupby(sorted(made.items(), key=lambda item: item[1].device), key=lambda item: item[1].device):
        yield from _of_device(device, dict(each))


def _of_device(device: str, made: dict[str, Planned]) -> Iterator[Finding]:
    for name, each in made.items():
        try:
            check_memory(name, each)
        except OperatorError as error:
            yield problem(str(error), FEWER)
            return
    at_once = {name: each for name, each in made.items() if each.wanted.preload}
    unknown = [name for name, each in made.items() if each.memory is None]
    needed = sum(each.memory.needed for each in at_once.values() if each.memory)
    total = sum(each.memory.total for each in at_once.values() if each.memory)
    free = free_on(device)
    there = f"{free / GIGABYTE:.2f} GB are free"
    there += f" of the {memory_bytes() / GIGABYTE:.2f} GB that this process may have" if device == "cpu" else f" on {device}"
    if needed > free:
        yield problem(f"All that is loaded at the start takes {needed / GIGABYTE:.2f} GB together, and {there}.", FEWER)
    elif total > free:
        yield warning(
            f"With full vision caches the instances take {total / GIGABYTE:.2f} GB together, and {there}.",
            "Set a smaller vision_cache_bytes.",
        )
    else:
        beside = f"; {', '.join(unknown)} must be fetched before more is known" if unknown else ""
        yield fine(f"What is loaded at the start takes up to {total / GIGABYTE:.2f} GB, and {there}{beside}.")


def processors(settings: Settings) -> Iterator[Finding]:
    """Cores that this process may use, against the threads and processes it is told to have."""
    may, has = cores(), os.cpu_count() or 1
    shares = f"{may} of {has} cores may be used" if may < has else f"{has} cores"
    for name, wanted in (("threads", settings.threads), ("workers", settings.workers or 0)):
        if wanted > may:
            yield warning(
                f"{name} is {wanted}, and {shares}: they take turns, and all are slower.", f"Leave {name} out, which takes what there is."
            )
            return
    if may == 1:
        yield warning(f"{shares}: the model waits whenever requests and pictures are read.", "Give it two cores at least.")
    else:
        yield fine(f"{shares}." if may == has else f"{shares}, as its container or its affinity says.")


def files(settings: Settings) -> Iterator[Finding]:
    """Files that may be open at once, against the connections that are to be."""
    wanted = settings.max_connections + OTHER_FILES
    allowed = open_files(wanted)
    if allowed < wanted:
        served = max(1, allowed - OTHER_FILES)
        yield warning(
            f"The process may open {allowed} files: {served} connections are served at once, not {settings.max_connections}.",
            f"ulimit -Hn {wanted}, LimitNOFILE={wanted} in systemd, or --ulimit nofile={wanted} in a container.",
        )
    else:
        yield fine(f"The process may open the {wanted} files that {settings.max_connections} connections and the rest need.")


def shared_memory(settings: Settings, folder: Path = SHARED_MEMORY) -> Iterator[Finding]:
    """What several processes share, where there are several."""
    if settings.workers == 0 or os.name != "posix" or not Path("/proc").exists():
        return
    if not os.access(folder, os.W_OK):
        yield problem(
            f"Worker processes share memory through {folder}, which cannot be written to.", "Mount a tmpfs there, or set workers = 0."
        )
        return
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < LEAST_SHARED:
        yield problem(
            f"{folder} has {free} bytes left, and worker processes share memory through it.", "Remove old files there, or enlarge it."
        )
    else:
        yield fine(f"{folder}, through which worker processes share memory, has {free / 1e6:.0f} MB left.")

"""The processes that decode pictures, as the system sees them."""

import psutil


def fork_servers(parent: int | None = None) -> list[psutil.Process]:
    """Those that a process started, this one or another."""
    return [each for each in psutil.Process(parent).children() if _decodes(each)]


def image_workers(parent: int | None = None) -> list[psutil.Process]:
    """Those of all its fork servers."""
    return sorted((worker for server in fork_servers(parent) for worker in server.children()), key=lambda each: each.pid)


def _decodes(process: psutil.Process) -> bool:
    try:
        return "service.model.image_worker" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
